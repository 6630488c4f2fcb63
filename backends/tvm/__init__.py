"""What the backends share: lowering of operations and building of libraries with TVM."""

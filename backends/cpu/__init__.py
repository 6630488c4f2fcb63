"""The CPU backend: kernels and schedules for vector units and caches."""

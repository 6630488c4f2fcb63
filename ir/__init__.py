"""The intermediate representation: types, operations, graphs, their text form and their meaning."""

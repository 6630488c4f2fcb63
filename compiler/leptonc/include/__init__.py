"""The header that operators written in C are compiled with."""

"""The tests of leptonc, laid out like the packages they test."""

"""The table of cases, one module for every family of rules."""

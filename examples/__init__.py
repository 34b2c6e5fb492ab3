"""The definitions and functions of `./dev demo`: a real job over the files of a checkout."""

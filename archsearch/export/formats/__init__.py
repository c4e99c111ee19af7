"""The forms a student is shipped in, one file each that registers a `Format`, as `FILES` in format.py lists them."""

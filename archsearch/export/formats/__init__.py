"""The forms a student is shipped in, one file each. Adding one is adding a file that registers a `Format`."""

"""Routes, one file a resource. Each parses, makes one call, and returns."""

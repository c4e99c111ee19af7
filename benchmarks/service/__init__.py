"""What the service answers a second, how long it takes, and what it is like while a search has all cores."""

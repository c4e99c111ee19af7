"""Where a job writes down what happened: what every ledger can do (`ledger.py`), in rows and in a folder."""

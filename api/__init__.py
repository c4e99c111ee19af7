"""The REST API. It knows HTTP and nothing else.

Imports inside are relative, for a wheel installs it as `archsearch._api`.
"""

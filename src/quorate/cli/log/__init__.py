"""``quorate log``: a data directory, offline."""

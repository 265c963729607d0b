"""``quorate cluster``: operators' commands."""

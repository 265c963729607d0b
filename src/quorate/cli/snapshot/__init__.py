"""``quorate snapshot``: backups."""

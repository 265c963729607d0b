"""The process: everything that touches sockets, threads, clocks and signals, and nothing else.

What decides is pure and lives elsewhere; the modules here carry out what it decided. One write
takes this way: ``client_listener`` (bytes arrive) -> ``driver`` (one turn) -> ``peer_link`` and
``disk_thread`` (shipped and made durable) -> ``driver`` -> ``client_listener`` (one write per
connection).
"""

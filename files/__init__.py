"""How the root writes: a file is replaced whole (writing), and two processes keep out of each other's way (locking)."""

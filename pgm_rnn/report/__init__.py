"""Output for people: tables in a terminal, files, pictures and music."""

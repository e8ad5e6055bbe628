UNREACHED: dict[str, str] = {}

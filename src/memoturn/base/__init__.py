"""The ground floor: positions, ids, clock, errors, names, settings. Imports nothing of ours."""

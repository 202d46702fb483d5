"""Metrics: arrays in, numbers out. Usable without any model of frostbox."""

"""Shared code of the builders of photographed pairs: listing, checking, storing."""

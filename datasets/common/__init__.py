"""What the builders of photographed pairs share: listing, checking, storing."""

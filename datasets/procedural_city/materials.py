"""Surface materials of a scene: their ids, their names and how mottled each one is.

The ids double as the semantic labels stored with a panorama, so they are part of the data format:
append, never renumber.
"""

import numpy as np

SKY = 0  # Labels only: no cell of a scene is sky.
ROAD = 1
MARKING = 2
PAVEMENT = 3
KERB = 4
GRASS = 5
PAVED = 6
WATER = 7
BUILDING = 8
TREE = 9
HEDGE = 10
CAR = 11

NAMES = (
    "sky",
    "road",
    "marking",
    "pavement",
    "kerb",
    "grass",
    "paved",
    "water",
    "building",
    "tree",
    "hedge",
    "car",
)

# Relative brightness change that one standard deviation of the noise causes, per material.
MOTTLE = np.array(
    [0.0, 0.035, 0.02, 0.035, 0.02, 0.12, 0.05, 0.04, 0.035, 0.10, 0.14, 0.0], dtype=np.float32
)

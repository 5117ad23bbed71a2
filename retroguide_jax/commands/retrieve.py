"""Find where an image was taken: build an index of images once, query it as often as you like.

`index` embeds the images of a folder or of a data set and stores the embeddings. `query` embeds
your images and lists the most similar images of the index by exact search, whatever its size. It
assumes that your images are of the view that the index does not hold, unless --view says otherwise.

To locate a generated panorama, which shows the model's target view, search an index of the source
view (`index --view=aerial`), or, for similar images in an index of panoramas, use `query
--view=ground`.
"""

import argparse
import sys

from retroguide_jax.commands import retrieve_index, retrieve_query
from retroguide_jax.commands.data import positive_integer

EXAMPLE = """
retroguide retrieve index --workdir=runs/city --images=my_panoramas --output=panoramas.index
retroguide retrieve query --index=panoramas.index my_tiles --strip=found.png
retroguide retrieve index --workdir=runs/city --images=my_tiles --view=aerial --output=tiles.index
retroguide retrieve query --index=tiles.index my_views --json=found.json
retroguide retrieve query --index=panoramas.index my_views --view=ground
"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the actions `index` and `query` with their flags."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    index = actions.add_parser(
        "index",
        help="embed images and keep the embeddings",
        description="Embed the images of a folder or of a data set into an index to search.\n\n"
        "Images that cannot be read are listed and left out, and the exit status is then 1.",
    )
    retrieve_index.add_flags(index)
    query = actions.add_parser(
        "query",
        help="find the most similar images of an index",
        description="List the images of an index that are most similar to each of yours.\n\n"
        "Similarity is the cosine of their embeddings, compared exactly. Images that cannot be\n"
        "read are listed, and the exit status is then 1.",
    )
    retrieve_query.add_flags(query)
    for action in (index, query):
        action.add_argument(
            "--batch_size", type=positive_integer, default=32, help="images at a time"
        )


def run(args: argparse.Namespace) -> int:
    """Runs the action; returns 1 if an image could not be read, else 0.

    Raises:
      UserError: see `retrieve_index.run` and `retrieve_query.run`.
    """
    actions = {"index": retrieve_index.run, "query": retrieve_query.run}
    from retroguide_jax.data.remarks import Remarks

    remarks = Remarks()
    unreadable, num_images = actions[args.action](args, remarks)
    for line in remarks.list_lines():
        print(f"note: {line}", file=sys.stderr)
    for error in unreadable:
        print(f"skipped {error.name}: {error.reason}; {error.fix}", file=sys.stderr)
    if unreadable:
        print(f"{len(unreadable)} of {num_images} images could not be read", file=sys.stderr)
    return 1 if unreadable else 0

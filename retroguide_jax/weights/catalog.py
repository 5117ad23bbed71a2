"""The weight files that metrics depend on: purpose, published address and digest of each.

Digests were compared with several independent public records of each file; those of the LPIPS heads
were computed from the files inside the `lpips` 0.1.4 and `torchmetrics` 1.9.0 wheels, which are the
same. The names of PyTorch's files contain the first digits of their digests.
"""

import dataclasses

from retroguide_jax.errors import UserError
from retroguide_jax.text import find_nearest


@dataclasses.dataclass(frozen=True)
class Weights:
    """A published weight file.

    Attributes:
      name: its name in commands.
      file_name: its name in a cache.
      purpose: what it is and which metrics need it.
      url: the published address.
      licence: its terms, as far as the publisher states them.
      sha256: hexadecimal digest; "" if unknown.
      size: bytes; None if unknown.
      aliases: names of the same file in other places.
      packages: packages that contain it, as (package, path inside it).
    """

    name: str
    file_name: str
    purpose: str
    url: str
    licence: str
    sha256: str = ""
    size: int | None = None
    aliases: tuple[str, ...] = ()
    packages: tuple[tuple[str, str], ...] = ()


_IMAGENET = "BSD-3-Clause code; trained on ImageNet, whose terms may bind the weights"
_TORCHVISION = "https://download.pytorch.org/models"


def _describe_heads(net: str, sha256: str, size: int) -> Weights:
    return Weights(
        name=f"lpips_{net}",
        file_name=f"lpips_{net}.pth",
        purpose=f"LPIPS v0.1 heads of {net} (Zhang et al. 2018): lpips_{net}",
        url=(
            "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/"
            f"lpips/weights/v0.1/{net}.pth"
        ),
        licence="BSD-2-Clause",
        sha256=sha256,
        size=size,
        aliases=(f"{net}.pth",),
        packages=(
            ("lpips", f"weights/v0.1/{net}.pth"),
            ("torchmetrics", f"functional/image/lpips_models/{net}.pth"),
        ),
    )


_ALL = (
    Weights(
        name="inception",
        file_name="pt_inception-2015-12-05-6726825d.pth",
        purpose="the Inception of FID, KID and Inception Score, as ported by pytorch-fid",
        url=(
            "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
            "pt_inception-2015-12-05-6726825d.pth"
        ),
        licence="Apache-2.0",
        sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        size=95_628_359,
        # torch-fidelity and torchmetrics keep a byte-identical copy under this name.
        aliases=("weights-inception-2015-12-05-6726825d.pth",),
    ),
    Weights(
        name="alexnet",
        file_name="alexnet-owt-7be5be79.pth",
        purpose="torchvision's AlexNet on ImageNet: lpips_alex",
        url=f"{_TORCHVISION}/alexnet-owt-7be5be79.pth",
        licence=_IMAGENET,
        sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        size=244_408_911,
    ),
    Weights(
        name="vgg16",
        file_name="vgg16-397923af.pth",
        purpose="torchvision's VGG16 on ImageNet: lpips_vgg",
        url=f"{_TORCHVISION}/vgg16-397923af.pth",
        licence=_IMAGENET,
        sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        size=553_433_881,
    ),
    Weights(
        name="squeezenet",
        file_name="squeezenet1_1-b8a52dc0.pth",
        purpose="torchvision's SqueezeNet 1.1 on ImageNet: lpips_squeeze",
        url=f"{_TORCHVISION}/squeezenet1_1-b8a52dc0.pth",
        licence=_IMAGENET,
        sha256="b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
        size=4_958_839,
    ),
    _describe_heads(
        "alex", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0", 6_009
    ),
    _describe_heads(
        "vgg", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868", 7_289
    ),
    _describe_heads(
        "squeeze", "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76", 10_811
    ),
    Weights(
        name="places_alexnet",
        file_name="alexnet_places365.pth.tar",
        purpose="AlexNet on Places365: KL score, accuracy and Inception Score of the GAN papers",
        # The publisher offers neither a digest nor https, so the first copy fetched is trusted.
        url="http://places2.csail.mit.edu/models_places365/alexnet_places365.pth.tar",
        licence="CC BY",
    ),
)

CATALOG: dict[str, Weights] = {weights.name: weights for weights in _ALL}


def get_weights(name: str) -> Weights:
    """Returns the catalog's entry of that name.

    Raises:
      UserError: there is none.
    """
    if name not in CATALOG:
        nearest = find_nearest(name, CATALOG)
        hint = f"did you mean {nearest}?" if nearest else f"there are {', '.join(CATALOG)}"
        raise UserError(f"no weights are called {name!r}; {hint}")
    return CATALOG[name]

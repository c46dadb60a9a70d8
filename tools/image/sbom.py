"""What an image's environment is made of, as CycloneDX 1.6 JSON, for scanners and inventories: from the lock alone.

The same lock gives the same text: no time, and a serial number that is the fingerprint's. The base's Debian packages
are not in it; a scanner finds those in the image, in /var/lib/dpkg/status. Addresses are left out, since a channel's
may hold a token; the package URLs name the channel where it has a name.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from ..environment.lock import Lock, Package

if TYPE_CHECKING:
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component
    from packageurl import PackageURL


def document(lock: Lock, fingerprint: str, platform: str) -> str:
    """The lock's packages for "linux-64" or the like, each with package URL, hashes and dependencies.

    fingerprint: of the image, 64 hex digits.
    """
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6
    from packaging.utils import canonicalize_name

    packages = lock.for_platform(platform)
    name = lock.path.name.removesuffix(".conda-lock.yml")
    image = Component(name=name, version=f"env-{fingerprint[:12]}", type=ComponentType.CONTAINER, bom_ref="image")
    components = [_component(package) for package in packages]
    bom = Bom(components=components, serial_number=uuid.UUID(bytes=bytes.fromhex(fingerprint)[:16], version=5))
    bom.metadata.component = image
    bom.metadata.timestamp = None  # type: ignore[assignment] # the format asks for none
    for key, value in (("fingerprint", fingerprint), ("platform", platform)):
        bom.metadata.properties.add(_property(key, value))
    for stand_in in lock.stand_ins:
        bom.metadata.properties.add(_property(f"stand-in.{stand_in.kind}", stand_in.replacement))
    bom.register_dependency(image, components)
    by_name = {canonicalize_name(each.name): each for each in components}
    for package, component in zip(packages, components, strict=True):
        names = map(canonicalize_name, package.dependencies)  # a wheel may spell a conda package otherwise
        bom.register_dependency(component, [by_name[name] for name in names if name in by_name])
    return f"{JsonV1Dot6(bom).output_as_string(indent=2)}\n"


def _component(package: Package) -> Component:
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType

    url = _package_url(package)
    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=package.sha256)]
    if package.md5:
        hashes.append(HashType(alg=HashAlgorithm.MD5, content=package.md5))
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        purl=url,
        bom_ref=url.to_string(),
        hashes=hashes,
    )


def _package_url(package: Package) -> PackageURL:
    """The types "conda" and "pypi" of the package URL specification."""
    from packageurl import PackageURL

    if package.manager == "pip":
        return PackageURL(type="pypi", name=package.name, version=package.version)
    address = urlsplit(package.url)
    *_, channel, subdir, name = ["", "", *unquote(address.path).split("/")]
    qualifiers = {"build": package.build, "subdir": subdir, "type": "conda" if name.endswith(".conda") else "tar.bz2"}
    if address.scheme != "file":
        qualifiers["channel"] = channel
    return PackageURL(type="conda", name=package.name, version=package.version, qualifiers=qualifiers)


def _property(name: str, value: str) -> Property:
    from cyclonedx.model import Property

    return Property(name=f"parity:{name}", value=value)

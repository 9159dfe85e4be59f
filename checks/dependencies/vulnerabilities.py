"""Ask OSV (osv.dev) for known vulnerabilities of everything installed with qidbayes: `make audit`.

Exits with 1 if there is one. Where the database does not answer, says so in capitals and exits with 0, or with 2 if it
is told to `--require` an answer: a machine without a network can be built on, and nobody takes that for a clean bill.
"""

import argparse
import json
import sys
import urllib.error
import urllib.request

from installed import closure

OSV = "https://api.osv.dev/v1/querybatch"


def known(packages: list[tuple[str, str]], address: str) -> dict[str, list[str]]:
    """Return the ids of vulnerabilities by package; packages without any are left out."""
    queries = [{"package": {"name": name, "ecosystem": "PyPI"}, "version": version} for name, version in packages]
    request = urllib.request.Request(
        address, json.dumps({"queries": queries}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        results = json.load(answer)["results"]
    pairs = zip(packages, results, strict=True)
    return {f"{name} {version}": [v["id"] for v in r["vulns"]] for (name, version), r in pairs if r.get("vulns")}


def main() -> int:
    """Ask, and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--require", action="store_true", help="exit with 2 if the database cannot be reached")
    parser.add_argument("--address", default=OSV, help="of the database")
    parser.add_argument("--extra", action="append", default=[], help="of qidbayes; may be repeated")
    asked = parser.parse_args()
    packages = sorted((found.name, found.version) for found in closure("qidbayes", tuple(asked.extra)))
    try:
        found = known(packages, asked.address)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        print(f"VULNERABILITIES NOT CHECKED: {asked.address} cannot be reached ({error})", file=sys.stderr)
        return 2 if asked.require else 0
    for package, ids in found.items():
        print(f"{package}: {', '.join(ids)}")
    print(f"{len(packages)} packages, {len(found)} with known vulnerabilities")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

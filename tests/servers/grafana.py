"""Grafana's own schema of a dashboard: the types that its makers publish for each release, read by TypeScript's compiler.

  python3 -m tests.servers.grafana --install           (needs npm; some seconds, 27 MB)

A literal that is given a type may have no property that the type does not know, and none of another kind: so a dashboard, written as a literal,
is held to them to the last field. No server.
"""

import argparse
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

from .base import Installation, fetch_npm

RELEASES = {"10.4": "10.4.19", "13.1": "13.1.0"}  # the schemaVersion of ours is of the former; the types of queries are of that one, too
CACHE = Path(__file__).resolve().parent / ".cache" / "grafana"
PACKAGES = {"@grafana/schema": RELEASES["13.1"], "schema-10.4": f"npm:@grafana/schema@{RELEASES['10.4']}", "typescript": "5.9.3"}
PANELS = {"stat": "stat/panelcfg/x/StatPanelCfg", "timeseries": "timeseries/panelcfg/x/TimeSeriesPanelCfg"}
HEAD = """import type * as new_ from "@grafana/schema";
import type * as old from "schema-10.4";
import type { PrometheusDataQuery as Query } from "schema-10.4/dist/esm/raw/composable/prometheus/dataquery/x/PrometheusDataQuery_types.gen";
"""
OPTIONS = {"strict": True, "exactOptionalPropertyTypes": True, "skipLibCheck": True, "noEmit": True, "module": "node16", "moduleResolution": "node16",
           "target": "es2022", "types": []}

SCHEMA = Installation(CACHE, " ".join(PACKAGES.values()), partial(fetch_npm, CACHE, PACKAGES), CACHE / "node_modules/typescript/bin/tsc")


def complaints(board, folder):
    """What the compiler says of a dashboard (a dict), with the name of what it is about; "" when it is one. Panels' options and fields and the queries
    are open in the type of a dashboard: each is held to its own."""
    lines = [HEAD]
    for kind, where in PANELS.items():
        lines.append(f'import type * as {kind} from "@grafana/schema/dist/esm/raw/composable/{where}_types.gen";\n')

    def literal(name, type_, value):
        lines.append(f"export const {name}: {type_} = {json.dumps(value)};\n")

    literal("dashboard", "new_.Dashboard", board)
    literal("dashboard_for_10", "old.Dashboard", board)
    for number, panel in enumerate(board["panels"]):
        literal(f"panel_{number}_options", f"Partial<{panel['type']}.Options>", panel["options"])
        custom = panel["fieldConfig"]["defaults"].get("custom", {})
        literal(f"panel_{number}_custom", "timeseries.FieldConfig" if panel["type"] == "timeseries" else "Record<string, never>", custom)
        for target in panel["targets"]:
            literal(f"panel_{number}_query_{target['refId']}", "Query", target)
    (folder / "board.ts").write_text("".join(lines))
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": OPTIONS, "files": ["board.ts"]}))
    (folder / "node_modules").symlink_to(CACHE / "node_modules")
    said = subprocess.run(["node", SCHEMA.program, "-p", folder], capture_output=True, text=True)
    return said.stdout + said.stderr or ("" if said.returncode == 0 else f"status {said.returncode}")


def main(argv=None):
    parser = argparse.ArgumentParser(prog="tests.servers.grafana", description="Grafana's schema of a dashboard")
    parser.add_argument("--install", action="store_true", required=True, help="fetch it into the cache and leave")
    parser.parse_args(argv)
    SCHEMA.install()
    return 0


if __name__ == "__main__":
    sys.exit(main())

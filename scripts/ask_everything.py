"""Asks a sandbox whatever its description allows, and what it does not: with a token of each role in turn what that role
may ask, without a token the rest. Every answer must be one that is described: no 5xx, no other status, header, content
type or body, and nothing accepted that the description refuses.

    ask_everything.py [--long]

It finds BASE_URL and SANDBOX_JSON in its environment (on-fresh-sandbox.sh). Deterministic but for the order in which requests arrive. Prints no token.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request

# The authority last: it deletes what the others look at. None: without a token.
ROLES = ["clinical", "auditor", "administrator", None, "local-authority"]
SEED = "20261123"
# Whether what the description allows is accepted depends on what is on record.
LEFT_OUT = "positive_data_acceptance"


class Sandbox:
    """A running sandbox: its description, its tokens, one of its plans."""

    def __init__(self, base_url, directory):
        self.base_url, self.directory = base_url, directory
        self.root = "{0.scheme}://{0.netloc}".format(urllib.parse.urlsplit(base_url))
        self.document = self.fetch(f"{self.root}/openapi.json")

    @staticmethod
    def fetch(url, form=None, token=None):
        request = urllib.request.Request(url, data=form and urllib.parse.urlencode(form).encode())
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def token(self, role):
        return self.fetch(f"{self.root}/sandbox/token", form={"role": role})["access_token"]

    def plan(self):
        """The id of a plan, so that reads find something."""
        child = self.directory["examples"]["active_plan"]
        found = self.fetch(f"{self.base_url}/Flag?patient={child}", token=self.token("clinical"))
        return found["entry"][0]["resource"]["id"]


def operations(document, role):
    """(operation id, whether it takes a FHIR resource) of what the role may ask; of role None, what anybody may."""
    for methods in document["paths"].values():
        for operation in methods.values():
            callers = operation.get("x-callers")
            if role in callers if callers else role is None:
                content = operation.get("requestBody", {}).get("content", {})
                yield operation["operationId"], "application/fhir+json" in content


def config(asked, role, plan, longer):
    """Everything that a parameter may be is tried, but not everything that a resource may be: that would take hours. Nor,
    in the short run, what the same search has been asked by GET."""
    lines = [f'seed = {SEED}', 'workers = 4', 'continue-on-failure = true', 'request-timeout = 30.0']
    lines += ['[generation]', 'deterministic = true', 'database = "none"', f'max-examples = {40 if longer else 8}']
    lines += ['[phases.stateful]', f'enabled = {"true" if longer else "false"}']
    lines += ['[auth.openapi.bearer]', 'bearer = "${CPIS_TOKEN}"'] if role else []
    spared = [name for name, takes_resource in asked if takes_resource or (name.endswith("ByPost") and not longer)]
    if spared:
        lines += ['[[operations]]', f'include-operation-id = {json.dumps(spared)}', 'phases.coverage.enabled = false']
    reads = [name for name, _ in asked if name in ("readFlag", "readCarePlan", "readCareTeam")]
    if role == "clinical":
        lines += ['[[operations]]', f'include-operation-id = {json.dumps(reads)}', f'parameters = {{ "path.id" = "{plan}" }}']
    return "\n".join(lines) + "\n"


def run(sandbox, role, plan, longer, directory):
    asked = list(operations(sandbox.document, role))
    environment = dict(os.environ)
    if role:
        environment["CPIS_TOKEN"] = sandbox.token(role)
    (directory / "config.toml").write_text(config(asked, role, plan, longer))
    selection = [word for name, _ in asked for word in ("--include-operation-id", name)]
    done = subprocess.run(
        [pathlib.Path(sys.executable).with_name("schemathesis"), "--config-file", directory / "config.toml", "run",
         f"{sandbox.root}/openapi.json", "--no-color", "--warnings", "off", "--exclude-checks", LEFT_OUT, *selection],
        cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    output = re.sub(r"eyJ[A-Za-z0-9_.-]+", "[token]", done.stdout)
    cases = re.search(r"(\d+) generated, .*", output)
    if done.returncode or not cases:
        print(output)
    print(f"{role or 'no token'}: {len(asked)} operations, {cases[0] if cases else 'nothing was asked'}", flush=True)
    return done.returncode == 0 and cases is not None


def main():
    longer = "--long" in sys.argv
    sandbox = Sandbox(os.environ["BASE_URL"], json.loads(pathlib.Path(os.environ["SANDBOX_JSON"]).read_text()))
    plan = sandbox.plan()
    with tempfile.TemporaryDirectory() as directory:
        results = [run(sandbox, role, plan, longer, pathlib.Path(directory)) for role in ROLES]
    sys.exit(0 if all(results) else 1)


main()

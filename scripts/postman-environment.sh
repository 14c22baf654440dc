#!/bin/sh
# Fills the Postman environment from a running sandbox: postman-environment.sh BASE_URL SANDBOX_JSON > environment.json
# BASE_URL is the FHIR base, SANDBOX_JSON the file that the sandbox writes beside its database.
set -eu

exec node - "$(dirname "$0")/../postman/sandbox.postman_environment.json" "$1" "$2" <<'SCRIPT'
const fs = require("fs");
const [template, baseUrl, sandboxFile] = process.argv.slice(2);
const environment = JSON.parse(fs.readFileSync(template, "utf8"));
const sandbox = JSON.parse(fs.readFileSync(sandboxFile, "utf8"));

const need = (value, what) => {
  if (value === undefined) throw new Error(`${sandboxFile} holds no ${what}`);
  return value;
};
const ofRole = (role) => sandbox.organizations.filter((o) => o.role === role).map((o) => o.ods);
const [authority, otherAuthority] = ofRole("local-authority");
const unscheduled = sandbox.organizations.filter((o) => o.care_setting === "unscheduled").map((o) => o.ods);
const inUnscheduledCare = (user) => user.role === "clinical" && unscheduled.includes(user.organization);
const clinician = need(sandbox.users.find(inUnscheduledCare), "clinical user of an unscheduled care setting");
// A device's id is a client id, a person's an SDS user id: twelve digits.
const isDevice = (user) => user.organization === clinician.organization && !/^\d{12}$/.test(user.id);

// The fields of a child that can be uploaded, each name with a prefix.
const child = (prefix, index) => {
  const fields = Object.entries(need(sandbox.uploadable[index], "child to upload"));
  return Object.fromEntries(fields.map(([name, value]) => [`${prefix}_${name}`, value]));
};
const server = new URL(baseUrl).origin;
const values = {
  server_url: server,
  base_url: baseUrl.replace(/\/$/, ""),
  sandbox_url: server,
  clinical_organization: clinician.organization,
  clinical_user: clinician.id,
  clinical_device: need(sandbox.users.find(isDevice), "device of the clinician's organisation").id,
  authority_organization: authority,
  other_authority_organization: otherAuthority,
  auditor_organization: ofRole("auditor")[0],
  administrator_organization: ofRole("administrator")[0],
  ...sandbox.examples,
  ...child("upload", 0),
  ...child("versions", 1),
};
for (const variable of environment.values) {
  if (variable.key in values) variable.value = need(values[variable.key], variable.key);
}
process.stdout.write(JSON.stringify(environment, null, 2) + "\n");
SCRIPT

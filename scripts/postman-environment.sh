#!/bin/sh
# Fills the Postman environment from a running sandbox: postman-environment.sh BASE_URL SANDBOX_JSON > environment.json
# BASE_URL is the FHIR base, SANDBOX_JSON the file that the sandbox writes beside its database.
set -eu

exec node - "$(dirname "$0")/../postman/sandbox.postman_environment.json" "$1" "$2" <<'END'
const fs = require("fs");
const [template, baseUrl, sandboxFile] = process.argv.slice(2);
const environment = JSON.parse(fs.readFileSync(template, "utf8"));
const sandbox = JSON.parse(fs.readFileSync(sandboxFile, "utf8"));

const need = (value, what) => {
  if (value === undefined) throw new Error(`${sandboxFile} holds no ${what}`);
  return value;
};
const organization = (role, more = () => true) =>
  need(sandbox.organizations.find((o) => o.role === role && more(o)), `organization of role ${role}`).ods;

const clinician = need(
  sandbox.users.find(
    (u) =>
      u.role === "clinical" &&
      sandbox.organizations.some((o) => o.ods === u.organization && o.care_setting === "unscheduled"),
  ),
  "clinical user of an unscheduled care setting",
);
const child = need(sandbox.uploadable[0], "uploadable child");
const values = {
  base_url: baseUrl.replace(/\/$/, ""),
  root: new URL(baseUrl).origin,
  clinical_organization: clinician.organization,
  clinical_user: clinician.id,
  authority_organization: organization("local-authority"),
  auditor_organization: organization("auditor"),
  ...sandbox.examples,
  upload_nhs_number: child.nhs_number,
  upload_family: child.family,
  upload_given: child.given,
  upload_birth_date: child.birth_date,
};
for (const variable of environment.values) {
  if (variable.key in values) variable.value = need(values[variable.key], variable.key);
}
process.stdout.write(JSON.stringify(environment, null, 2) + "\n");
END

#!/bin/sh
# The five-minute tour: runs its commands against the sandbox that `make run` started, from the repository's root.
#   tour.sh            prints the tour as Markdown, each command with the output that it really had
#   tour.sh README.md  writes it between the file's <!-- tour --> marks
#   tour.sh --dry      prints the commands only, without a sandbox
set -eu

# Prose in $1, commands on standard input. They run in this shell, so that later steps see their variables.
step() {
    commands=$(cat)
    printf '%s\n\n```sh\n%s\n```\n\n' "$1" "$commands"
    [ "$mode" = dry ] && return
    eval "$commands" >"$output"
    if [ -s "$output" ]; then
        printf '```text\n'
        cat "$output"
        printf '```\n\n'
    fi
}

tour() {
    step "Tokens, the base URL and the sandbox's example children (all synthetic, NHS numbers of the 999 range):" <<'END'
gateway=target/release/cpis-gateway
CLINICIAN=$($gateway token --role clinical)
AUTHORITY=$($gateway token --role local-authority)
AUDITOR=$($gateway token --role auditor)
BASE=$(jq -r .base_url data/sandbox.json)
CHILD=$(jq -r .examples.active_plan data/sandbox.json)
NUMBER=https://fhir.nhs.uk/Id/nhs-number
END
    step "**Look a child up**, as a clinician in an emergency department. Plan, authority, whom to phone:" <<'END'
curl -sG "$BASE/CareTeam" --data-urlencode "patient:identifier=$NUMBER|$CHILD" \
  -H "Authorization: Bearer $CLINICIAN" -H "IsUnscheduledAccessEvent: true" |
  jq '.total, .entry[].resource'
END
    step "**Who else looked?** The access history, one's own look-up included:" <<'END'
curl -sG "$BASE/AuditEvent" --data-urlencode "patient:identifier=$NUMBER|$CHILD" -d _include=AuditEvent:agent \
  -H "Authorization: Bearer $CLINICIAN" -H "IsUnscheduledAccessEvent: true" |
  jq -r '.total, (.entry[].resource | select(.resourceType == "PractitionerRole")
         | [.practitioner.display, .code[0].coding[0].display, .organization.display] | join(", "))'
END
    step "**A child without a record** is no error, and the look-up is audited all the same:" <<'END'
curl -sG "$BASE/CareTeam" --data-urlencode "patient:identifier=$NUMBER|$(jq -r .examples.no_record data/sandbox.json)" \
  -H "Authorization: Bearer $CLINICIAN" -H "IsUnscheduledAccessEvent: true" |
  jq -c '[.resourceType, .type, .total]'
END
    step "**A typing error** is caught by the check digit. Answers say what to do and repeat nothing personal:" <<'END'
curl -sG "$BASE/CareTeam" --data-urlencode "patient:identifier=$NUMBER|9990000019" \
  -H "Authorization: Bearer $CLINICIAN" -H "IsUnscheduledAccessEvent: true" |
  jq '.issue'
END
    step "**Scheduled care is refused**, before the child is looked up:" <<'END'
curl -sG "$BASE/CareTeam" --data-urlencode "patient:identifier=$NUMBER|$CHILD" \
  -H "Authorization: Bearer $CLINICIAN" -H "IsUnscheduledAccessEvent: false" |
  jq -r '.issue[0] | .details.coding[0].code, .diagnostics'
END
    step "**Register a plan**, as a local authority. Child and plan are one record, judged together:" <<'END'
NEW=$(jq -r '.uploadable[-1].nhs_number' data/sandbox.json)
FAMILY=$(jq -r '.uploadable[-1].family' data/sandbox.json)
GIVEN=$(jq -r '.uploadable[-1].given' data/sandbox.json)
BORN=$(jq -r '.uploadable[-1].birth_date' data/sandbox.json)
curl -s "$BASE" -H "Authorization: Bearer $AUTHORITY" -H "Content-Type: application/fhir+json" -d @- <<BUNDLE |
{"resourceType": "Bundle", "type": "batch", "entry": [
  {"request": {"method": "PUT", "url": "Patient/$NEW"},
   "resource": {"resourceType": "Patient", "id": "$NEW",
     "identifier": [{"system": "$NUMBER", "value": "$NEW"}],
     "name": [{"family": "$FAMILY", "given": ["$GIVEN"]}], "birthDate": "$BORN"}},
  {"request": {"method": "POST", "url": "Flag"},
   "resource": {"resourceType": "Flag", "status": "active",
     "identifier": [{"system": "urn:oid:2.16.840.1.113883.2.1.3.2.4.18.24", "value": "tour-1"}],
     "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/flag-category", "code": "safety"}]}],
     "code": {"coding": [
       {"system": "https://fhir.nhs.uk/England/CodeSystem/England-FlagCategoryPatient",
        "code": "child-protection-information-system-flag"},
       {"system": "http://snomed.info/sct", "code": "342191000000101"}]},
     "subject": {"identifier": {"system": "$NUMBER", "value": "$NEW"}},
     "period": {"start": "$(date +%Y-%m-01)"}}}]}
BUNDLE
  jq -r '.meta.tag[].code, (.entry[].response | [.status, .outcome.issue[0].diagnostics] | join("  "))'
END
    step "**It is there at once** for clinicians, and **the authority sees that the child was seen**:" <<'END'
curl -sG "$BASE/CareTeam" --data-urlencode "patient:identifier=$NUMBER|$NEW" \
  -H "Authorization: Bearer $CLINICIAN" -H "IsUnscheduledAccessEvent: true" |
  jq -r '.entry[].resource | [.name, .status, .period.start] | join(", ")'
curl -sG "$BASE/AuditEvent" -d "patient=$NEW" -H "Authorization: Bearer $AUTHORITY" |
  jq -r '.entry[].resource | select(.resourceType == "AuditEvent") | .recorded'
END
    step "**The auditor sees every request** about the child, refused ones too:" <<'END'
curl -sG "$BASE/AuditEvent" -d "patient=$CHILD" -d _count=5 -H "Authorization: Bearer $AUDITOR" |
  jq -r '.entry[].resource | select(.resourceType == "AuditEvent")
         | [.recorded, .subtype[0].code, "outcome \(.outcome)", (.agent[] | select(.requestor) | .name // .who.display // "-")]
         | join("  ")'
END
    step "**Nothing was altered**: the audit's hash chains and signed checkpoints hold." <<'END'
$gateway audit verify
END
}

mode=print
readme=
case ${1-} in
--dry) mode=dry ;;
?*) readme=$1 ;;
esac
output=$(mktemp)
whole=$(mktemp)
trap 'rm -f "$output" "$whole"' EXIT
[ "$mode" = dry ] || command -v jq >/dev/null || { echo "The tour needs jq: apt-get install jq" >&2; exit 1; }
[ "$mode" = dry ] || curl -fsS -o /dev/null "$(jq -r .base_url data/sandbox.json)/metadata" ||
    { echo "Start the sandbox first: make run" >&2; exit 1; }
tour >"$whole"
if [ -z "$readme" ]; then
    cat "$whole"
else
    grep -q '^<!-- tour -->$' "$readme" && grep -q '^<!-- /tour -->$' "$readme" ||
        { echo "$readme has no <!-- tour --> and <!-- /tour --> lines" >&2; exit 1; }
    sed -i -e '/^<!-- tour -->$/,/^<!-- \/tour -->$/{//!d}' "$readme"
    sed -i -e "/^<!-- tour -->\$/r $whole" "$readme"
fi

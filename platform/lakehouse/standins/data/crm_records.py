"""The contents of CRM records: names, companies, stages, in Salesforce's field names and formats.

Here: pure functions from record numbers and moments to records. Not here: when records arrive, and
faults (`crm.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from lakehouse.standins.data.plan import Draw

TYPES = ("Customer - Direct", "Customer - Channel", "Prospect", "Technology Partner")
INDUSTRIES = (
    "Agriculture", "Apparel", "Banking", "Construction", "Education", "Energy", "Food & Beverage",
    "Healthcare", "Insurance", "Manufacturing", "Retail", "Technology", "Transportation",
)  # fmt: skip
CITIES = (
    ("Vienna", "Wien", "1010", "Austria"), ("Munich", "Bayern", "80331", "Germany"),
    ("Lyon", "Auvergne-Rhône-Alpes", "69001", "France"), ("Turin", "Piemonte", "10121", "Italy"),
    ("Leeds", "West Yorkshire", "LS1 4DY", "United Kingdom"),
    ("Denver", "CO", "80202", "United States"),
    ("Austin", "TX", "78701", "United States"), ("Montréal", "QC", "H2Y 1C6", "Canada"),
    ("Osaka", "Osaka", "530-0001", "Japan"), ("Porto Alegre", "RS", "90010-150", "Brazil"),
)  # fmt: skip
STAGES = (
    ("Prospecting", 10), ("Qualification", 10), ("Needs Analysis", 20), ("Value Proposition", 50),
    ("Proposal/Price Quote", 75), ("Negotiation/Review", 90),
    ("Closed Won", 100), ("Closed Lost", 0),
)  # fmt: skip
FIRST_NAMES = (
    "Ana", "Ben", "Chloé", "Dmitri", "Elif", "Farid", "Grace", "Hiro", "Ines", "Jonas", "Karin",
    "Lea", "Marco", "Nadia", "Oskar", "Priya", "Quentin", "Rosa", "Søren", "Tomás",
)  # fmt: skip
LAST_NAMES = (
    "Almeida", "Bauer", "Costa", "Dubois", "Eriksen", "Fischer", "García", "Hansen", "Ito", "Jones",
    "Kowalski", "Lindqvist", "Moreau", "Nguyen", "O'Brien",
    "Petrov", "Rossi", "Schmidt", "Tanaka", "Weber",
)  # fmt: skip
COMPANY_WORDS = (
    "Alpine",
    "Blue",
    "Central",
    "Delta",
    "Eastern",
    "First",
    "Global",
    "Harbor",
    "Northern",
    "Summit",
)
COMPANY_FORMS = (
    "Foods",
    "Freight",
    "Holdings",
    "Industries",
    "Labs",
    "Markets",
    "Partners",
    "Supply",
    "Systems",
)
DELETED_OF = 16
"""One in so many changes of a contact, a lead or an opportunity is its deletion, until the next one."""
DEALS = ("cold chain renewal", "expansion", "new region", "pilot", "renewal", "spare parts")
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - Salesforce's text form adds the offset
PREFIXES = {"accounts": "001", "contacts": "003", "opportunities": "006", "leads": "00Q"}
STATUSES = (
    "Open - Not Contacted", "Working - Contacted", "Closed - Converted", "Closed - Not Converted",
)  # fmt: skip
LEAD_SOURCES = ("Web", "Phone Inquiry", "Partner Referral", "Purchased List", "Other")


def record_id(dataset: str, number: int) -> str:
    """An id of Salesforce's shape: a three-character prefix per object and fifteen more."""
    return f"{PREFIXES[dataset]}Lk{number:013d}"


def account_id(number: int) -> str:
    return record_id("accounts", number)


def iso(us: int) -> str:
    """`2026-10-05T01:02:03.000+0000`, as Salesforce's API writes it."""
    return (EPOCH + timedelta(microseconds=us)).isoformat(timespec="milliseconds") + "+0000"


def _stamps(created: int, modified: int, *, deleted: bool = False) -> dict[str, Any]:
    last = iso(modified)
    stamps = {"CreatedDate": iso(created), "LastModifiedDate": last, "SystemModstamp": last}
    return {**stamps, "IsDeleted": deleted}


def _phone(n: int) -> str:
    return f"+{1 + n % 88} {200 + n % 700} {n % 10_000_000:07d}"


def _versions(
    numbers: np.ndarray, created: np.ndarray, modified: np.ndarray, draw: Draw
) -> Iterator[tuple[int, int, int, int, int]]:
    """The number of each version's record, its times in microseconds, bits for what stays, and bits
    for what follows from the modification."""
    fixed = draw.bits(numbers).tolist()
    moving = draw.bits(numbers * 1_000_003 + modified // 1000).tolist()
    return zip(numbers.tolist(), created.tolist(), modified.tolist(), fixed, moving, strict=True)


def accounts(
    numbers: np.ndarray,
    customers: np.ndarray,
    created: np.ndarray,
    modified: np.ndarray,
    draw: Draw,
) -> list[dict[str, Any]]:
    """A version's revenue and phone follow from its modification; the rest stays."""
    records = []
    versions = _versions(numbers, created, modified, draw)
    for customer, (number, first, last, a, b) in zip(customers.tolist(), versions, strict=True):
        city, state, postal_code, country = CITIES[a % len(CITIES)]
        word, form = (
            COMPANY_WORDS[a // 16 % len(COMPANY_WORDS)],
            COMPANY_FORMS[a // 256 % len(COMPANY_FORMS)],
        )
        records.append(
            {
                "Id": account_id(number),
                "Name": f"{word} {form} {number + 1}",
                "Type": TYPES[a // 4096 % len(TYPES)],
                "Industry": INDUSTRIES[a // 65_536 % len(INDUSTRIES)],
                "AnnualRevenue": float(100_000 + b % 500_000 * 100),
                "BillingStreet": f"{1 + a % 290} {word} Road\nSuite {1 + a // 8 % 40}",
                "BillingCity": city,
                "BillingState": state,
                "BillingPostalCode": postal_code,
                "BillingCountry": country,
                "Phone": _phone(b >> 20),
                "Website": f"https://www.{word.lower()}-{form.lower()}-{number + 1}.example.com",
                "Customer_Id__c": customer,
                **_stamps(first, last),
            }
        )
    return records


def contacts(
    numbers: np.ndarray, created: np.ndarray, modified: np.ndarray, draw: Draw
) -> list[dict[str, Any]]:
    """A version's phone follows from its modification; the rest stays."""
    records = []
    for number, first, last, a, b in _versions(numbers, created, modified, draw):
        records.append(
            {
                "Id": record_id("contacts", number),
                "AccountId": account_id(number // 2),
                "FirstName": FIRST_NAMES[a % len(FIRST_NAMES)],
                "LastName": LAST_NAMES[a // 64 % len(LAST_NAMES)],
                "Email": f"contact{number + 1}@example.org",
                "Phone": _phone(b >> 20),
                **_stamps(first, last, deleted=last > first and b % DELETED_OF == 0),
            }
        )
    return records


def leads(
    numbers: np.ndarray, created: np.ndarray, modified: np.ndarray, draw: Draw
) -> list[dict[str, Any]]:
    """A version's status and phone follow from its modification; the rest stays."""
    records = []
    for number, first, last, a, b in _versions(numbers, created, modified, draw):
        word = COMPANY_WORDS[a // 16 % len(COMPANY_WORDS)]
        records.append(
            {
                "Id": record_id("leads", number),
                "FirstName": FIRST_NAMES[a // 3 % len(FIRST_NAMES)],
                "LastName": LAST_NAMES[a // 128 % len(LAST_NAMES)],
                "Email": f"lead{number + 1}@example.org",
                "Phone": _phone(b >> 20),
                "Company": f"{word} {COMPANY_FORMS[a // 4096 % len(COMPANY_FORMS)]}",
                "Status": STATUSES[b % len(STATUSES)],
                "LeadSource": LEAD_SOURCES[a // 65_536 % len(LEAD_SOURCES)],
                **_stamps(first, last, deleted=last > first and b % DELETED_OF == 0),
            }
        )
    return records


def opportunities(
    numbers: np.ndarray, created: np.ndarray, modified: np.ndarray, draw: Draw
) -> list[dict[str, Any]]:
    """A version's stage and amount follow from its modification; the close date stays."""
    records = []
    for number, first, last, a, b in _versions(numbers, created, modified, draw):
        stage, probability = STAGES[b % len(STAGES)]
        records.append(
            {
                "Id": record_id("opportunities", number),
                "AccountId": account_id(number // 2),
                "Name": f"{DEALS[a % len(DEALS)].capitalize()} {number + 1}",
                "StageName": stage,
                "Amount": round(1_000 + (b >> 8) % 9_000_000 / 100, 2),
                "CloseDate": f"{EPOCH + timedelta(microseconds=first, days=30 + a % 120):%Y-%m-%d}",
                "Probability": probability,
                **_stamps(first, last, deleted=last > first and b % DELETED_OF == 0),
            }
        )
    return records

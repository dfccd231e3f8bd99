"""The checklist as a table: each item's number, level, what it asks in a sentence of ours, and how it is met.

Levels: M must, C must under a condition, S should, P practice, not in the text. The specifications: CDS Hooks 1.0, 2.0.1 and
3.0 (https://cds-hooks.hl7.org, https://build.fhir.org/ig/HL7/cds-hooks/) and the hook library.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Item:
    """One item; `number` is 1 to 91, or `K` and a version."""

    number: str
    level: str
    what: str
    met: str


SECTIONS: dict[str, tuple[int, int]] = {
    "A. Transport and JSON": (1, 5),
    "B. Discovery": (6, 14),
    "C. Requests": (15, 22),
    "D. Contexts": (23, 28),
    "E. Prefetch": (29, 40),
    "F. FHIR authorization": (41, 45),
    "G. Responses": (46, 64),
    "H. Feedback": (65, 72),
    "I. Authentication": (73, 85),
    "J. HTTP, security, audit": (86, 91),
}

_ROWS = """
1|M|JSON goes in and comes out, over TLS|JSON only; addresses of clients must be https beyond loopback
2|M|No member is null or empty, but for the arrays of cards and of services|left out; checked in every answer of the suite
3|M|FHIR inside is standard FHIR JSON|resources validated before they are sent, required bindings in tests
4|S|JSON without comments and trailing commas|strict parser, strict writer
5|P|A charset and unknown members are no fault|media type compared without parameters; unknown members ignored
6|M|Discovery answers 200|`GET /cds-services`
7|M|An object with an array of services|always an object
8|M|Each entry has hook, id and description, and templates of text|made from the models' manifests
9|S|The version of the specification|2.0.1; 3.0.0 for clients that know it
10|C|The version of the hook's definition|from each hook's module
11|M|Each id answers at its URL|ids of lower-case letters, digits and dashes
12|M|One id may serve several hooks|dispatched by hook; ids of their own for clients that keep services by id
13|S|Discovery is authenticated too|unless `access.open_discovery`
14|M|Templates obey the rules of prefetch|derived from the models' queries
15|M|Every member of a call is taken|all eleven hooks of the library
16|P|What is no call is a 400, an unknown service a 404|named member, expected and got, no value
17|C|A token without a server is not used|ignored
18|M|FHIR servers are https and were agreed|only base URLs of the client's table are asked
19|S|A hook instance may repeat|nothing depends on it
20|M|Clients of 1.0 get what 1.0 knows|quirk `cds-hooks-1.0`
21|S|Answers within about half a second|a few milliseconds, and a deadline for the slow ones
22|P|Repeated members, deep nesting and large bodies are bounded|400 and 413
23|M|Users are of four types|parsed, never assumed
24|M|Advice is on the selected orders|orders that are drafted already are not proposed again
25|S|Drafts are incomplete|read leniently
26|P|Selections may point at nothing|no fault
27|M|Unknown members of a context are allowed|ignored; hooks of vendors are not served
28|P|Ids as references, contained medications, the pages' own variants|taken; another patient's resources are refused
29|M|Tokens name fields of the context|`{{context.patientId}}`
30|P|3.0's tokens only to those who know them|quirk `cds-hooks-3.0`
31|M|No cycles among templates|none depends on another
32|S|Query syntax as recommended|type searches by token, `_sort`, `_count`; `date` for 3.0
33|M|What was sent is checked and only what is missing fetched|per key
34|M|Required data that cannot be had is a 412 with an outcome|other data is told on the card
35|M|Null, empty, error and absent are told apart|five states of a key
36|S|OperationOutcomes among entries are seen|an error is asked again, a notice is not
37|M|Pages are followed, or said to be missing|on the same origin, up to a limit
38|P|The token goes to no other server|next pages elsewhere are not followed
39|P|Keys that were not asked for are ignored|never decoded
40|S|Prefetch alone and the server alone suffice|the same card either way
41|M|The members of the authorization|checked; a wrong type is a 400
42|M|The token is presented and not kept|one call's own client, never logged
43|P|Expiry, subject and patient of the token count|not used where one does not fit
44|P|Scopes are advisory|of any syntax; a 403 is missing data
45|P|A failing server degrades inside the deadline|412 or a line on the card
46|M|200 with an array of cards|always
47|S|No guidance is 200 with no cards|also for shadow runs
48|S|Other answers carry an OperationOutcome|every one of them
49|P|Each card has a unique id|made from the decision's id in the log
50|M|Summaries have fewer than 140 characters|cut between words, code points counted
51|M|Detail is Markdown|what came from FHIR is escaped
52|M|Three indicators|from the manifest's bands
53|M|A source with a label, absolute URLs|topic of letters and digits where wanted
54|C|How to choose among suggestions is said|`any`; `at-most-one` for 1.0
55|M|Suggestions have a label and actions|an id each, one action each, none recommended
56|M|No choice among actions unless agreed|never sent
57|M|Actions have a description and a whole resource|only `create` is ever sent
58|P|Proposed orders are drafts about the patient|draft, proposal
59|M|Override reasons are whole Codings|from the manifest
60|M|Links are absolute; context only with smart links, as text|from the configuration alone
61|P|No launch parameters of one's own|launch URL as configured
62|M|System actions only where agreed|`system_actions` of the client's table
63|M|Extensions are objects under reverse domain names|`org.bedside.receipt`
64|P|The same input gives the same card under fresh ids|models and texts are deterministic
65|P|There may be a feedback endpoint|there is one for each service
66|M|Batches of several entries|up to 1,000
67|M|What an entry holds|each read by itself; its time has to be after the card and before now
68|P|What clients send in fact|plural reasons, extensions, offsets, clocks that differ by minutes, batches hours late
69|P|Unknown cards and repeats are no failure|counted; recorded once
70|P|Another service's or tenant's card is not taken|counted as unknown
71|M|Authenticated like a call|audience of the feedback or of the service
72|M|Feedback is no duty of the user, and silence says nothing|what comes is linked to its decision, in counts
73|S|Calls are authenticated|closed unless configured; certificate besides where agreed
74|M|On every call|discovery, calls and feedback
75|M|Header and claims that a token must have|all checked, save that `typ` may be left out; further ones ignored
76|M|No `none`, no symmetric algorithm|asymmetric ones by the client's list
77|M|The audience is the endpoint's URL|the public one, compared exactly
78|S|Issuers and key sets by list|nothing else is fetched
79|M|Without `jku`, keys as agreed|URL or file
80|M|`kid` selects the key; an unknown one is looked for once|at most once a minute
81|P|A token is good once|a store shared by workers, spent last
82|P|A refusal says nothing|one text for all
83|P|A minute of leeway, short lives|60 s, 15 minutes
84|P|Odd claims and embedded keys|refused, or ignored
85|P|The FHIR token is no credential|and the JWT never leaves
86|M|Pages of browsers may call|origins of the client's table
87|P|Preflights without token, errors readable|on all routes
88|P|Statuses that say what is wrong|one table of errors
89|S|Access is audited|every decision in a signed log, provable
90|P|Nothing private in links, ids, summaries or caches|links from the configuration, no-store
91|M|Safety is negotiated|switches, and requirements in discovery
K 1.0|M|What 1.0 lacks|left out for such clients
K 2.0|M|What came with 2.0|the form unless a quirk says otherwise
K 3.0|M|What came with 3.0|tokens, version, both forms of scopes, outcomes
"""
ITEMS: tuple[Item, ...] = tuple(Item(*row.split("|")) for row in _ROWS.strip().splitlines())

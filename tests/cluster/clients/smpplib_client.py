"""A session of smpplib: bind, submit two messages (the second in several parts), get both receipts, unbind.

Arguments: host port system_id password source. Exit code 0 if all of it happened.
"""
import sys
import time

import smpplib.client
import smpplib.consts
import smpplib.gsm

HOST, PORT, SYSTEM_ID, PASSWORD, SOURCE = sys.argv[1:6]
DEADLINE = time.monotonic() + 30

submitted = []
receipts = {}


def on_sent(pdu):
    if pdu.status != smpplib.consts.SMPP_ESME_ROK:
        sys.exit(f"submit_sm was refused with status {pdu.status:#x}")
    submitted.append(pdu.message_id.decode())


def on_received(pdu):
    # Message type "delivery receipt" of esm_class (SMPP v3.4 section 5.2.12).
    if pdu.esm_class & 0x3C == 0x04:
        receipts[pdu.receipted_message_id.decode().rstrip("\0")] = pdu.message_state
        text = pdu.short_message.decode()
        if not text.startswith("id:") or "stat:DELIVRD" not in text:
            sys.exit(f"a receipt with this text: {text}")
    return smpplib.consts.SMPP_ESME_ROK


client = smpplib.client.Client(HOST, int(PORT), allow_unknown_opt_params=True, timeout=30)
client.set_message_sent_handler(on_sent)
client.set_message_received_handler(on_received)
client.connect()
client.bind_transceiver(system_id=SYSTEM_ID, password=PASSWORD)

expected = 0
for text in ["hello from smpplib", "a long text that needs more than one part, " * 8]:
    parts, data_coding, esm_class = smpplib.gsm.make_parts(text)
    for part in parts:
        client.send_message(
            source_addr_ton=smpplib.consts.SMPP_TON_UNK,
            source_addr_npi=smpplib.consts.SMPP_NPI_ISDN,
            source_addr=SOURCE,
            dest_addr_ton=smpplib.consts.SMPP_TON_INTL,
            dest_addr_npi=smpplib.consts.SMPP_NPI_ISDN,
            destination_addr="15550004711",
            short_message=part,
            data_coding=data_coding,
            esm_class=esm_class,
            registered_delivery=True,
        )
        expected += 1

while len(receipts) < expected:
    if time.monotonic() > DEADLINE:
        sys.exit(f"{len(submitted)} of {expected} acknowledged, {len(receipts)} receipts after 30 s")
    client.read_once()

if len(set(submitted)) != expected or set(receipts) != set(submitted):
    sys.exit(f"acknowledged {submitted}, receipts for {sorted(receipts)}")
client.unbind()
client.disconnect()
print(f"smpplib: {expected} messages acknowledged, {len(receipts)} receipts")

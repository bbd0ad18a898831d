"""A session of smpp.twisted, the library of Jasmin's connector: each bind mode, submit_sm with its receipt, query_sm,
cancel_sm, data_sm with its outcome in the response, a refusal, enquire_link, unbind. It can encode
neither replace_sm nor a message_payload of more than an octet.

Arguments: host port system_id password source. Exit code 0 if all of it happened.
"""
import sys

from smpp.pdu import operations, pdu_types
from smpp.pdu.error import SMPPTransactionError
from smpp.twisted.client import SMPPClientReceiver, SMPPClientTransceiver, SMPPClientTransmitter
from smpp.twisted.config import SMPPClientConfig
from twisted.internet import defer, reactor

HOST, PORT, SYSTEM_ID, PASSWORD, SOURCE = sys.argv[1:6]
STATUS = pdu_types.CommandStatus
failures = []
receipts = []


def address(digits):
    return {
        "source_addr": SOURCE,
        "source_addr_ton": pdu_types.AddrTon.UNKNOWN,
        "source_addr_npi": pdu_types.AddrNpi.ISDN,
        "dest_addr_ton": pdu_types.AddrTon.INTERNATIONAL,
        "dest_addr_npi": pdu_types.AddrNpi.ISDN,
        "destination_addr": digits,
    }


def source():
    return {key: value for key, value in address("").items() if key.startswith("source")}


def registered():
    return pdu_types.RegisteredDelivery(pdu_types.RegisteredDeliveryReceipt.SMSC_DELIVERY_RECEIPT_REQUESTED)


def forward_mode():
    return pdu_types.EsmClass(pdu_types.EsmClassMode.FORWARD, pdu_types.EsmClassType.DEFAULT)


def on_message(smpp, pdu):
    receipts.append(pdu)
    return STATUS.ESME_ROK


def expect(condition, what):
    if not condition:
        raise AssertionError(what)


@defer.inlineCallbacks
def ask(smpp, pdu, status=STATUS.ESME_ROK):
    try:
        result = yield smpp.sendRequest(pdu, 10)
        answer = result.response
    except SMPPTransactionError as error:
        answer = error.response
    expect(answer.status == status, f"{pdu.id}: {answer.status} instead of {status}")
    return answer


def pause(seconds):
    waited = defer.Deferred()
    reactor.callLater(seconds, waited.callback, None)
    return waited


@defer.inlineCallbacks
def session():
    config = SMPPClientConfig(host=HOST, port=int(PORT), username=SYSTEM_ID, password=PASSWORD)
    for client in (SMPPClientTransmitter(config), SMPPClientReceiver(config, on_message)):
        smpp = yield client.connectAndBind()
        yield smpp.unbindAndDisconnect()
    smpp = yield SMPPClientTransceiver(config, on_message).connectAndBind()
    yield ask(smpp, operations.EnquireLink())

    hello = operations.SubmitSM(**address("15550009101"), short_message=b"hello from Twisted", registered_delivery=registered())
    submitted = yield ask(smpp, hello)
    message_id = submitted.params["message_id"]
    while not receipts:
        yield pause(0.05)
    text = receipts[0].params["short_message"]
    expect(text.startswith(b"id:" + message_id) and b"stat:DELIVRD" in text, f"a receipt with this text: {text}")
    expect(receipts[0].params["receipted_message_id"] == message_id, "receipted_message_id")
    expect(receipts[0].params["message_state"] == pdu_types.MessageState.DELIVERED, "message_state")

    asked = yield ask(smpp, operations.QuerySM(message_id=message_id, **source()))
    expect(asked.params["message_state"] == pdu_types.MessageState.DELIVERED, "query_sm")
    nonsense = operations.SubmitSM(**address("nonsense"), short_message=b"no")
    yield ask(smpp, nonsense, STATUS.ESME_RINVDSTADR)

    waiting = yield ask(smpp, operations.SubmitSM(**address("17770009101"), short_message=b"first"))
    waiting = waiting.params["message_id"]
    yield ask(smpp, operations.CancelSM(message_id=waiting, **address("17770009101")))
    asked = yield ask(smpp, operations.QuerySM(message_id=waiting, **source()))
    expect(asked.params["message_state"] == pdu_types.MessageState.DELETED, "cancel_sm")

    data = operations.DataSM(**address("15550009102"), esm_class=forward_mode(), message_payload=b".")
    yield ask(smpp, data)
    failed = operations.DataSM(**address("16660009102"), esm_class=forward_mode(), message_payload=b".")
    yield ask(smpp, failed, STATUS.ESME_RDELIVERYFAILURE)
    yield smpp.unbindAndDisconnect()
    print(f"smpp.twisted: message {message_id.decode()} and its receipt, each bind mode, queried, cancelled, by data_sm")


def stop(result):
    if result is not None:
        failures.append(result)
    if reactor.running:
        reactor.stop()


reactor.callLater(30, stop, "not done after 30 s")
reactor.callWhenRunning(lambda: session().addBoth(stop))
reactor.run()
if failures:
    sys.exit(str(failures[0]))

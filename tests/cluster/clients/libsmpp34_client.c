/* A session by libsmpp34: each bind mode, submit_sm with its receipt, query_sm, replace_sm, cancel_sm, submit_multi,
 * data_sm with its outcome in the response, an alert_notification, refusals, enquire_link, unbind. The library packs and
 * unpacks every PDU by its own tables and refuses what is not as they have it.
 * Arguments: host port system_id password source. Exit code 0 if all of it happened. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libsmpp34/smpp34.h>
#include <libsmpp34/smpp34_structs.h>
#include <libsmpp34/smpp34_params.h>

static int stream = -1;
static uint32_t sequence;
static const char *source;
static deliver_sm_t delivered;
static int has_delivered;
static alert_notification_t alert;
static int has_alert;

/* Any PDU; the parts of the header are first in each. */
typedef union {
    struct { uint32_t command_length, command_id, command_status, sequence_number; } header;
    bind_transceiver_t bind;
    bind_transceiver_resp_t bind_resp;
    submit_sm_t submit;
    submit_sm_resp_t submit_resp;
    submit_multi_t multi;
    submit_multi_resp_t multi_resp;
    deliver_sm_t deliver;
    deliver_sm_resp_t deliver_resp;
    data_sm_t data;
    data_sm_resp_t data_resp;
    query_sm_t query;
    query_sm_resp_t query_resp;
    cancel_sm_t cancel;
    replace_sm_t replace;
    alert_notification_t alert;
    enquire_link_t link;
} any_pdu;

static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static void open_stream(const char *host, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) fail("%s is no address", host);
    stream = socket(AF_INET, SOCK_STREAM, 0);
    if (stream < 0 || connect(stream, (struct sockaddr *)&address, sizeof address) != 0) fail("no connection to %s", host);
}

static void send_pdu(any_pdu *pdu, uint32_t id, uint32_t number)
{
    uint8_t octets[4096];
    int length = 0, sent = 0;
    pdu->header.command_id = id;
    pdu->header.sequence_number = number;
    if (smpp34_pack2(octets, sizeof octets, &length, pdu) != 0) fail("packing %#x: %s", id, smpp34_strerror);
    while (sent < length) {
        ssize_t count = write(stream, octets + sent, (size_t)(length - sent));
        if (count <= 0) fail("writing failed");
        sent += (int)count;
    }
}

static void read_octets(uint8_t *octets, size_t length)
{
    size_t have = 0;
    while (have < length) {
        ssize_t count = read(stream, octets + have, length - have);
        if (count <= 0) fail("the connection ended");
        have += (size_t)count;
    }
}

/* The next PDU, which the library must be able to unpack whole. */
static void receive(any_pdu *pdu)
{
    uint8_t octets[4096];
    uint32_t length;
    read_octets(octets, 4);
    memcpy(&length, octets, 4);
    length = ntohl(length);
    if (length < 16 || length > sizeof octets) fail("a command_length of %u", length);
    read_octets(octets + 4, length - 4);
    memset(pdu, 0, sizeof *pdu);
    if (smpp34_unpack2(pdu, octets, (int)length) != 0) {
        fail("unpacking %02x%02x%02x%02x: %s", octets[4], octets[5], octets[6], octets[7], smpp34_strerror);
    }
}

/* Asks and waits for the answer, which must have this status; takes in what comes between. */
static void ask(any_pdu *pdu, uint32_t id, uint32_t status)
{
    uint32_t number = ++sequence;
    send_pdu(pdu, id, number);
    for (;;) {
        any_pdu *answer = pdu;
        receive(answer);
        if (answer->header.command_id == (id | 0x80000000) && answer->header.sequence_number == number) break;
        if (answer->header.command_id == DELIVER_SM) {
            any_pdu resp = {0};
            delivered = answer->deliver;
            has_delivered = 1;
            send_pdu(&resp, DELIVER_SM_RESP, delivered.sequence_number);
        } else if (answer->header.command_id == ALERT_NOTIFICATION) {
            alert = answer->alert;
            has_alert = 1;
        } else if (answer->header.command_id == ENQUIRE_LINK) {
            any_pdu resp = {0};
            send_pdu(&resp, ENQUIRE_LINK_RESP, answer->header.sequence_number);
        } else {
            fail("unexpected command_id %#x", answer->header.command_id);
        }
    }
    if (pdu->header.command_status != status) {
        fail("command_id %#x: status %#x instead of %#x", id, pdu->header.command_status, status);
    }
}

static void text(uint8_t *field, const char *value) { strcpy((char *)field, value); }

static void bind_as(uint32_t mode, const char *system_id, const char *password)
{
    any_pdu pdu = {0};
    text(pdu.bind.system_id, system_id);
    text(pdu.bind.password, password);
    pdu.bind.interface_version = SMPP_VERSION;
    ask(&pdu, mode, 0);
}

/* Gives the message_id. */
static void submit(const char *to, uint32_t status, const char *words, uint8_t receipt, char *message_id)
{
    any_pdu pdu = {0};
    pdu.submit.source_addr_npi = 1;
    text(pdu.submit.source_addr, source);
    pdu.submit.dest_addr_ton = pdu.submit.dest_addr_npi = 1;
    text(pdu.submit.destination_addr, to);
    pdu.submit.registered_delivery = receipt;
    pdu.submit.sm_length = (uint8_t)strlen(words);
    memcpy(pdu.submit.short_message, words, strlen(words));
    ask(&pdu, SUBMIT_SM, status);
    if (message_id) strcpy(message_id, (char *)pdu.submit_resp.message_id);
}

static int state_of(const char *message_id)
{
    any_pdu pdu = {0};
    text(pdu.query.message_id, message_id);
    text(pdu.query.source_addr, source);
    ask(&pdu, QUERY_SM, 0);
    return pdu.query_resp.message_state;
}

static void cancel(const char *message_id, const char *to, uint32_t status)
{
    any_pdu pdu = {0};
    text(pdu.cancel.message_id, message_id);
    text(pdu.cancel.source_addr, source);
    pdu.cancel.dest_addr_ton = pdu.cancel.dest_addr_npi = 1;
    text(pdu.cancel.destination_addr, to);
    ask(&pdu, CANCEL_SM, status);
}

static tlv_t *find(tlv_t *tlv, uint16_t tag)
{
    while (tlv && tlv->tag != tag) tlv = tlv->next;
    return tlv;
}

/* By data_sm in transaction mode; gives the message_id. */
static void data(const char *to, char *message_id)
{
    any_pdu pdu = {0};
    tlv_t payload = {.tag = TLVID_message_payload, .length = 4};
    memcpy(payload.value.octet, "data", 4);
    text(pdu.data.source_addr, source);
    pdu.data.dest_addr_ton = pdu.data.dest_addr_npi = 1;
    text(pdu.data.destination_addr, to);
    pdu.data.esm_class = 2;
    pdu.data.tlv = &payload;
    ask(&pdu, DATA_SM, 0);
    strcpy(message_id, (char *)pdu.data_resp.message_id);
}

/* In transaction mode, to a number out of reach, asking to be told when it is back. (The library knows no TLVs in
 * data_sm_resp, where a refusal would have them.) */
static void submit_in_vain(const char *to)
{
    any_pdu pdu = {0};
    tlv_t set_dpf = {.tag = TLVID_set_dpf, .length = 1};
    set_dpf.value.val08 = 1;
    text(pdu.submit.source_addr, source);
    pdu.submit.dest_addr_ton = pdu.submit.dest_addr_npi = 1;
    text(pdu.submit.destination_addr, to);
    pdu.submit.esm_class = 2;
    pdu.submit.tlv = &set_dpf;
    ask(&pdu, SUBMIT_SM, 0xfe);
}

static void link_check(void)
{
    any_pdu pdu = {0};
    ask(&pdu, ENQUIRE_LINK, 0);
    usleep(50000);
}

static void leave(void)
{
    any_pdu pdu = {0};
    ask(&pdu, UNBIND, 0);
    close(stream);
}

int main(int count, char **arguments)
{
    if (count != 6) fail("arguments: host port system_id password source");
    const char *host = arguments[1], *system_id = arguments[3], *password = arguments[4];
    int port = atoi(arguments[2]);
    char id[65], waiting[65];
    any_pdu pdu;
    source = arguments[5];
    alarm(30);

    open_stream(host, port);
    bind_as(BIND_TRANSMITTER, system_id, password);
    leave();
    open_stream(host, port);
    bind_as(BIND_RECEIVER, system_id, password);
    submit("15550009501", 0x04, "no", 0, NULL);
    leave();

    open_stream(host, port);
    bind_as(BIND_TRANSCEIVER, system_id, password);
    submit("nonsense", 0x0b, "no", 0, NULL);
    submit("15550009501", 0, "hello from C", 1, id);
    while (!has_delivered) link_check();
    delivered.short_message[delivered.sm_length] = 0;
    if (strncmp((char *)delivered.short_message, "id:", 3) || !strstr((char *)delivered.short_message, "stat:DELIVRD")) {
        fail("a receipt with this text: %s", delivered.short_message);
    }
    tlv_t *receipted = find(delivered.tlv, TLVID_receipted_message_id);
    if (!receipted || strcmp((char *)receipted->value.octet, id)) fail("receipted_message_id");
    if (state_of(id) != 2) fail("not delivered");

    submit("17770009501", 0, "first", 0, waiting);
    memset(&pdu, 0, sizeof pdu);
    text(pdu.replace.message_id, waiting);
    text(pdu.replace.source_addr, source);
    pdu.replace.sm_length = 6;
    memcpy(pdu.replace.short_message, "second", 6);
    ask(&pdu, REPLACE_SM, 0);
    cancel(waiting, "17770009501", 0);
    cancel(waiting, "17770009501", 0x11);
    if (state_of(waiting) != 4) fail("not deleted");

    dad_t refused = {.dest_flag = 1}, good = {.dest_flag = 1, .next = &refused};
    good.value.sme.dest_addr_ton = good.value.sme.dest_addr_npi = 1;
    text(good.value.sme.destination_addr, "15550009502");
    refused.value.sme.dest_addr_ton = refused.value.sme.dest_addr_npi = 1;
    text(refused.value.sme.destination_addr, "999");
    memset(&pdu, 0, sizeof pdu);
    text(pdu.multi.source_addr, source);
    pdu.multi.number_of_dests = 2;
    pdu.multi.dest_addr_def = &good;
    pdu.multi.sm_length = 7;
    memcpy(pdu.multi.short_message, "to many", 7);
    ask(&pdu, SUBMIT_MULTI, 0);
    if (pdu.multi_resp.no_unsuccess != 1 || pdu.multi_resp.unsuccess_smes->error_status_code != 0x0b) {
        fail("submit_multi refuses %u", pdu.multi_resp.no_unsuccess);
    }

    data("15550009503", id);
    if (state_of(id) != 2) fail("answered before it was delivered");
    submit_in_vain("17770009503");
    while (!has_alert) link_check();
    if (strcmp((char *)alert.source_addr, "17770009503")) fail("an alert of %s", alert.source_addr);
    leave();
    printf("libsmpp34: message %s and its receipt, each bind mode, queried, replaced, cancelled, to many, by data_sm, an alert, refusals\n", id);
    return 0;
}

// A message centre made of npm's smpp, as difficult as those of other makers: ids in hexadecimal in its responses and in
// decimal in its receipts, receipts before responses, late answers, throttling, connections dropped with submissions
// unanswered. Arguments: host port. Prints a line of JSON with its counts every second.
'use strict';
const smpp = require('smpp');

const [host, port] = process.argv.slice(2);
const FIRST_ID = 0x1a2b00;
const counts = { binds: 0, submits: 0, accepted: 0, throttled: 0, dropped: 0, receipts: 0, acknowledged: 0 };
const receivers = new Set();
// Receipts that nobody has acknowledged, by the number of the message.
const owed = new Map();
let next = FIRST_ID;

function sendReceipt(number) {
  const to = owed.get(number);
  const [session] = receivers;
  if (!to || !session) return;
  counts.receipts += 1;
  const text = `id:${String(number).padStart(10, '0')} sub:001 dlvrd:001 submit date:2611210252 done date:2611210253 `
    + 'stat:DELIVRD err:000 text:';
  const done = (pdu) => {
    if (pdu.command_status !== 0 || !owed.delete(number)) return;
    counts.acknowledged += 1;
  };
  session.deliver_sm({
    source_addr_ton: 1,
    source_addr_npi: 1,
    source_addr: to,
    destination_addr: '1000',
    esm_class: 4,
    short_message: text,
  }, done);
}

function submit(session, pdu) {
  counts.submits += 1;
  if (counts.submits % 97 === 0) {
    counts.throttled += 1;
    session.send(pdu.response({ command_status: smpp.ESME_RTHROTTLED }));
    return;
  }
  if (counts.submits % 401 === 0) {
    // Accepted, and the answer is lost with the connection.
    counts.dropped += 1;
    session.destroy();
    return;
  }
  const number = next;
  next += 1;
  owed.set(number, pdu.destination_addr);
  const answer = () => {
    counts.accepted += 1;
    session.send(pdu.response({ message_id: number.toString(16).toUpperCase() }));
  };
  if (number % 5 === 0) {
    // The receipt first.
    sendReceipt(number);
    setTimeout(answer, 100);
  } else if (number % 7 === 0) {
    setTimeout(answer, 700);
    setTimeout(() => sendReceipt(number), 750);
  } else {
    answer();
    setTimeout(() => sendReceipt(number), 20);
  }
}

const server = smpp.createServer((session) => {
  const bind = (pdu) => {
    counts.binds += 1;
    session.send(pdu.response({ system_id: 'npm' }));
    if (pdu.command !== 'bind_transmitter') receivers.add(session);
  };
  session.on('bind_transceiver', bind);
  session.on('bind_transmitter', bind);
  session.on('bind_receiver', bind);
  session.on('submit_sm', (pdu) => submit(session, pdu));
  session.on('enquire_link', (pdu) => session.send(pdu.response()));
  session.on('unbind', (pdu) => {
    session.send(pdu.response());
    session.close();
  });
  const gone = () => receivers.delete(session);
  session.on('close', gone);
  session.on('error', gone);
});

// What was not acknowledged is sent again, as a message centre does.
setInterval(() => [...owed.keys()].slice(0, 500).forEach(sendReceipt), 2000);
setInterval(() => console.log(JSON.stringify({ ...counts, owed: owed.size })), 1000);
server.on('error', (error) => {
  console.error(error.message);
  process.exit(1);
});
server.listen(Number(port), host);

// A session of npm's smpp: bind, enquire_link, submit, query_sm, the receipt, unbind.
// Arguments: host port system_id password source. Exit code 0 if all of it happened.
'use strict';
const smpp = require('smpp');

const [host, port, system_id, password, source] = process.argv.slice(2);

function fail(reason) {
  console.error(reason);
  process.exit(1);
}

setTimeout(() => fail('not done after 30 s'), 30000);

const session = smpp.connect({ host, port: Number(port) });
session.on('error', (error) => fail(`connection: ${error.message}`));

// Resolves with the answer; a refusal ends the test.
function request(method, parameters) {
  return new Promise((resolve) => {
    session[method](parameters, (pdu) => {
      if (pdu.command_status !== 0) fail(`${method} was refused with status ${pdu.command_status}`);
      resolve(pdu);
    });
  });
}

const receipt = new Promise((resolve) => {
  session.on('deliver_sm', (pdu) => {
    session.send(pdu.response());
    if ((pdu.esm_class & 0x3c) === 0x04) resolve(pdu);
  });
});
session.on('enquire_link', (pdu) => session.send(pdu.response()));

async function main() {
  await request('bind_transceiver', { system_id, password, interface_version: 0x34 });
  await request('enquire_link', {});
  const submitted = await request('submit_sm', {
    source_addr: source,
    dest_addr_ton: 1,
    dest_addr_npi: 1,
    destination_addr: '15550004712',
    registered_delivery: 1,
    short_message: 'hello from node',
  });
  const pdu = await receipt;
  const text = String(pdu.short_message.message);
  const named = String(pdu.receipted_message_id).replace(/\0$/, '');
  if (named !== submitted.message_id) fail(`a receipt for ${named} instead of ${submitted.message_id}`);
  if (!text.startsWith(`id:${submitted.message_id} `) || !text.includes('stat:DELIVRD')) fail(`a receipt with this text: ${text}`);
  const asked = await request('query_sm', { message_id: submitted.message_id, source_addr: source });
  if (asked.message_state !== 2) fail(`query_sm tells state ${asked.message_state}`);
  await request('unbind', {});
  console.log(`node smpp: message ${submitted.message_id} acknowledged, its receipt came, query_sm says delivered`);
  process.exit(0);
}

session.on('connect', () => main().catch((error) => fail(error.stack)));

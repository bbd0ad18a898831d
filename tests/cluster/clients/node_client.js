// A session of npm's smpp: bind, enquire_link, submit, query_sm, the receipt, replace_sm, cancel_sm by id and by addresses,
// submit_multi, data_sm with its outcome in the response, unbind; and in version 5.0 the operations of cell broadcast, each
// refused with the status of its own, and congestion_state.
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
  await operations();
  await request('unbind', {});
  session.close();
  await broadcasts();
  console.log(`node smpp: message ${submitted.message_id} acknowledged, its receipt came, query_sm says delivered; replaced, cancelled, to many, by data_sm; broadcasts refused`);
  process.exit(0);
}

// Numbers that begin with 1777 are out of reach for seconds: what is sent there can be replaced and cancelled.
async function operations() {
  const to = (destination_addr) => ({ dest_addr_ton: 1, dest_addr_npi: 1, destination_addr });
  const state = async (message_id) => (await request('query_sm', { message_id, source_addr: source })).message_state;

  const { message_id } = await request('submit_sm', { source_addr: source, ...to('17770004712'), short_message: 'first' });
  await request('replace_sm', { message_id, source_addr: source, short_message: 'second' });
  await request('cancel_sm', { message_id, source_addr: source, ...to('17770004712') });
  if ((await state(message_id)) !== 4) fail('the cancelled message is not deleted');

  const many = await request('submit_multi', {
    source_addr: source,
    dest_address: [to('15550004713'), to('17770004713'), to('999')],
    short_message: 'to many',
  });
  const refused = many.unsuccess_sme;
  if (refused.length !== 1 || refused[0].destination_addr !== '999' || refused[0].error_status_code !== 0x0b) {
    fail(`submit_multi refuses ${JSON.stringify(refused)}`);
  }
  await request('cancel_sm', { message_id: '', source_addr: source, ...to('17770004713') });
  if ((await state(many.message_id)) !== 4) fail('what was left of submit_multi is not deleted');

  const data = await request('data_sm', {
    source_addr: source,
    ...to('15550004714'),
    esm_class: 2,
    message_payload: 'by data_sm',
  });
  if ((await state(data.message_id)) !== 2) fail('data_sm was answered before its message was delivered');
}

// There is no link to a cell broadcast centre: the answers say so, or what is wrong besides.
async function broadcasts() {
  const latest = smpp.connect({ host, port: Number(port) });
  latest.on('error', (error) => fail(`connection: ${error.message}`));
  await new Promise((resolve) => latest.on('connect', resolve));
  const ask = (method, parameters, status) =>
    new Promise((resolve) => {
      latest[method](parameters, (pdu) => {
        if (pdu.command_status !== status) fail(`${method} is answered with status ${pdu.command_status}, not ${status}`);
        resolve(pdu);
      });
    });
  const bound = await ask('bind_transceiver', { system_id, password, interface_version: 0x50 }, 0);
  if (bound.sc_interface_version !== 0x50) fail(`sc_interface_version ${bound.sc_interface_version}`);
  const broadcast = {
    source_addr: source,
    broadcast_area_identifier: ['here'],
    broadcast_content_type: { network: 1, content_type: 0 },
    broadcast_rep_num: 1,
    broadcast_frequency_interval: { unit: 9, interval: 5 },
    message_payload: 'to all',
  };
  await ask('broadcast_sm', broadcast, 0x10d);
  await ask('broadcast_sm', { source_addr: source }, 0xc3);
  await ask('broadcast_sm', { ...broadcast, broadcast_frequency_interval: { unit: 1, interval: 5 } }, 0x107);
  await ask('query_broadcast_sm', { message_id: '1', source_addr: source }, 0x10e);
  await ask('cancel_broadcast_sm', { message_id: '1', source_addr: source }, 0x10f);
  const submitted = await ask('submit_sm', { source_addr: source, dest_addr_ton: 1, dest_addr_npi: 1, destination_addr: '15550004715', short_message: 'hello' }, 0);
  if (typeof submitted.congestion_state !== 'number') fail('submit_sm_resp of version 5.0 tells of no congestion');
  await ask('unbind', {}, 0);
}

session.on('connect', () => main().catch((error) => fail(error.stack)));

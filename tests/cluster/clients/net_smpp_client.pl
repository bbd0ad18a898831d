# A session of Perl's Net::SMPP: each bind mode, enquire_link, submit_sm with its receipt, query_sm, replace_sm, cancel_sm
# by id and by addresses, submit_multi, data_sm with its outcome in the response, an alert_notification, refusals, unbind.
# Arguments: host port system_id password source. Exit code 0 if all of it happened.
use strict;
use warnings;
use Net::SMPP;

my ($host, $port, $system_id, $password, $source) = @ARGV;
$SIG{ALRM} = sub { die "not done after 30 s\n" };
alarm 30;

my %access = (system_id => $system_id, password => $password);
my %to = (source_addr => $source, dest_addr_ton => 1, dest_addr_npi => 1);
my (@delivered, @alerts);

sub bound {
    my ($mode) = @_;
    my $make = "new_$mode";
    my ($smpp, $resp) = Net::SMPP->$make($host, %access, port => $port);
    die "no connection: $!\n" if !$smpp;
    die "bind as $mode: status $resp->{status}\n" if $resp->{status};
    ${*$smpp}{handlers}->{&Net::SMPP::CMD_deliver_sm} = sub {
        my ($me, $pdu) = @_;
        push @delivered, $pdu;
        $me->deliver_sm_resp(seq => $pdu->{seq}, message_id => '');
    };
    ${*$smpp}{handlers}->{&Net::SMPP::CMD_alert_notification} = sub { push @alerts, $_[1] };
    return $smpp;
}

# Asks and expects this status.
sub ask {
    my ($smpp, $status, $operation, @parameters) = @_;
    my $resp = $smpp->$operation(@parameters);
    die "$operation: no answer\n" if !$resp;
    die sprintf("%s: status %#x instead of %#x\n", $operation, $resp->{status}, $status) if $resp->{status} != $status;
    return $resp;
}

sub state_of {
    my ($smpp, $message_id) = @_;
    return ask($smpp, 0, 'query_sm', message_id => $message_id, source_addr => $source)->{message_state};
}

for my $mode ('transmitter', 'receiver') {
    my $smpp = bound($mode);
    ask($smpp, 0x04, 'submit_sm', %to, destination_addr => '15550009001', short_message => 'no') if $mode eq 'receiver';
    ask($smpp, 0, 'unbind');
}

my $smpp = bound('transceiver');
ask($smpp, 0, 'enquire_link');
ask($smpp, 0x05, 'bind_transmitter', %access);
ask($smpp, 0x0b, 'submit_sm', %to, destination_addr => 'nonsense', short_message => 'no');
ask($smpp, 0x62, 'submit_sm', %to, destination_addr => '15550009001', validity_period => 'soon', short_message => 'no');

my $id = ask($smpp, 0, 'submit_sm', %to, destination_addr => '15550009001', registered_delivery => 1,
    short_message => 'hello from Perl', user_message_reference => pack('n', 4711))->{message_id};
ask($smpp, 0, 'enquire_link') while !@delivered;
my $receipt = $delivered[0];
die "no receipt: $receipt->{short_message}\n" if $receipt->{short_message} !~ /^id:$id .*stat:DELIVRD/;
die "receipted_message_id $receipt->{receipted_message_id}\n" if $receipt->{receipted_message_id} ne "$id\0";
die "the reference did not come back\n" if unpack('n', $receipt->{user_message_reference}) != 4711;
die "not delivered\n" if state_of($smpp, $id) != 2;

# Numbers that begin with 1777 are out of reach for seconds.
my $waiting = ask($smpp, 0, 'submit_sm', %to, destination_addr => '17770009001', short_message => 'first')->{message_id};
ask($smpp, 0, 'replace_sm', message_id => $waiting, source_addr => $source, short_message => 'second');
ask($smpp, 0, 'cancel_sm', message_id => $waiting, source_addr => $source, dest_addr_ton => 1, dest_addr_npi => 1,
    destination_addr => '17770009001');
die "not deleted\n" if state_of($smpp, $waiting) != 4;
ask($smpp, 0x11, 'cancel_sm', message_id => $waiting, source_addr => $source, destination_addr => '17770009001');
ask($smpp, 0x13, 'replace_sm', message_id => $waiting, source_addr => $source, short_message => 'too late');
ask($smpp, 0x67, 'query_sm', message_id => '4000000000', source_addr => $source);

my $many = ask($smpp, 0, 'submit_multi', %to, destination_addr => ['15550009002', '17770009002', '999'],
    dest_addr_ton => [1, 1, 1], dest_addr_npi => [1, 1, 1], short_message => 'to many');
die "submit_multi refuses $many->{no_unsuccess}\n" if $many->{no_unsuccess} != 1 || $many->{destination_addr}[0] ne '999';
die "submit_multi refuses 999 with $many->{error_status_code}[0]\n" if $many->{error_status_code}[0] != 0x0b;
ask($smpp, 0, 'cancel_sm', message_id => '', source_addr => $source, dest_addr_ton => 1, dest_addr_npi => 1,
    destination_addr => '17770009002');

my $data = ask($smpp, 0, 'data_sm', %to, destination_addr => '15550009003', esm_class => 2, message_payload => 'data');
die "answered before it was delivered\n" if state_of($smpp, $data->{message_id}) != 2;
# Out of reach, in transaction mode, and we want to hear when it is back.
my $failed = ask($smpp, 0xfe, 'data_sm', %to, destination_addr => '17770009003', esm_class => 2, message_payload => 'data',
    set_dpf => pack('C', 1));
die "no delivery pending flag\n" if unpack('C', $failed->{dpf_result}) != 1;
do { select undef, undef, undef, 0.1; ask($smpp, 0, 'enquire_link') } while !@alerts;
die "an alert of $alerts[0]{source_addr}\n" if $alerts[0]{source_addr} ne '17770009003';
die "an alert to $alerts[0]{esme_addr}\n" if $alerts[0]{esme_addr} ne $source;
ask($smpp, 0, 'unbind');
print "Net::SMPP: message $id and its receipt, each bind mode, queried, replaced, cancelled, to many, by data_sm, an alert, refusals\n";

# Prints what comes out of the machine, a frame a line, and answers SCTP on port 4000.
use strict;
use warnings;
use Socket;
$| = 1;
socket(my $server, AF_INET, SOCK_STREAM, 132) or die "sctp: $!\n";
bind $server, pack_sockaddr_in(4000, INADDR_ANY) or die "bind: $!\n";
listen $server, 9 or die "listen: $!\n";
socket(my $wire, 17, SOCK_RAW, 0x0300) or die "packet: $!\n";    # AF_PACKET, ETH_P_ALL
print "ready\n";
my $FORGED = "20010db8000000000000000000000bad";
my @held;
while (1) {
    my $ready = '';
    vec($ready, fileno($_), 1) = 1 for $server, $wire;
    select $ready, undef, undef, undef;
    if (vec $ready, fileno($server), 1) { accept(my $peer, $server); push @held, $peer }
    next unless vec $ready, fileno($wire), 1;
    defined recv($wire, my $frame, 2000, 0) or next;
    my ($source, $type) = unpack "x6 H12 n", $frame;
    next if $source ne "020000000001";
    if ($type == 0x8864) { print "pppoe ", unpack("x20 a*", $frame) =~ /(uid\d+)/, "\n" }
    if ($type == 0x86dd) {
        my ($next, $from, $to) = unpack "x20 C x H32 H32", $frame;
        if ($from eq $FORGED and $next == 132) { print "forged ", unpack("x54 n", $frame), "\n" }
        # An error that the machine sends there holds the packet that it is about.
        if ($to eq $FORGED and $next == 58) { print "answered ", unpack("x102 n", $frame), "\n" }
    }
    if ($type != 0x0800) { next }
    my ($protocol, $header) = (unpack("x23 C", $frame), (unpack("x14 C", $frame) & 15) * 4);
    my $port = unpack "x" . (14 + $header) . "n", $frame;
    print "sctp $port\n" if $protocol == 132;
    print "tcp $port\n" if $protocol == 6;
    print "mark\n" if $protocol == 17 and $port == 999;
}

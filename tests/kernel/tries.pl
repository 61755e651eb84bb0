# Tries one way out as a uid, and prints what came of it. The source port, or the text, tells whose it was.
use strict;
use warnings;
use Socket qw(:DEFAULT inet_pton pack_sockaddr_in6);
$| = 1;
my ($uid, $way, $neighbour, $name) = @ARGV;
$) = "$uid $uid";
$( = $uid;
$< = $> = $uid;

sub said { print "$way $uid ", $_[0] ? "ok" : "no: $!", "\n"; exit }
my ($outside, $itself) = (inet_aton("10.77.0.2"), inet_aton("127.0.0.1"));

# A connection of a protocol from the port that is the uid, given up after 3 seconds.
sub connected {
    my ($family, $protocol, $from, $to) = @_;
    socket my $s, $family, SOCK_STREAM, $protocol or said(0);
    setsockopt $s, SOL_SOCKET, SO_REUSEADDR, 1;
    bind $s, pack_sockaddr_in($uid, $from) or said(0);
    local $SIG{ALRM} = sub { print "$way $uid no: no answer\n"; exit };
    alarm 3;
    my $done = connect $s, $to;
    alarm 0;
    return $done ? $s : undef;
}

if ($way eq "mark") {
    socket my $s, AF_INET, SOCK_DGRAM, 0;
    bind $s, pack_sockaddr_in(999, INADDR_ANY);
    send $s, "end", 0, pack_sockaddr_in(9999, $outside);
} elsif ($way eq "sctp") {
    said(connected(AF_INET, 132, INADDR_ANY, pack_sockaddr_in(4000, $outside)));
} elsif ($way eq "sctp_held") {
    $uid += 1000;
    my $s = connected(AF_INET, 132, INADDR_ANY, pack_sockaddr_in(4000, $outside)) or said(0);
    print "held\n";
    <STDIN>;
} elsif ($way eq "sctp_forged") {
    # From an address that is not this machine's: SOL_IPV6, IPV6_FREEBIND.
    socket my $s, AF_INET6, SOCK_STREAM, 132 or said(0);
    setsockopt $s, 41, 78, 1 or said(0);
    bind $s, pack_sockaddr_in6($uid, inet_pton(AF_INET6, "2001:db8::bad")) or said(0);
    fcntl $s, 4, 2048;    # F_SETFL, O_NONBLOCK: nobody answers
    connect $s, pack_sockaddr_in6(4000, inet_pton(AF_INET6, "fd77::2"));
    sleep 1;    # a packet that is refused is sent again
    said(1);
} elsif ($way eq "sctp_loopback") {
    socket my $server, AF_INET, SOCK_STREAM, 132 or said(0);
    bind $server, pack_sockaddr_in($uid + 2000, $itself) or said(0);
    listen $server, 1 or said(0);
    said(connected(AF_INET, 132, $itself, pack_sockaddr_in($uid + 2000, $itself)));
} elsif ($way eq "smc") {
    socket my $s, 43, SOCK_STREAM, 0 or said(0);    # AF_SMC, SMCPROTO_SMC
    setsockopt $s, SOL_SOCKET, 25, "out0\0" or said(0);    # SO_BINDTODEVICE
    bind $s, pack_sockaddr_in($uid, INADDR_ANY) or said(0);
    said(connect $s, pack_sockaddr_in(4001, $outside));
} elsif ($way eq "pppoe") {
    socket my $s, 24, SOCK_STREAM, 0 or said(0);    # AF_PPPOX, PX_PROTO_OE
    # struct sockaddr_pppox: a family, a protocol, a session, an address, a device.
    my $to = pack "S L n a6 a16", 24, 0, 1, "\x02\0\0\0\0\x02", "out0";
    connect $s, $to or said(0);
    said(send $s, "uid$uid", 0);
} elsif ($way eq "l2tp_eth") {
    # A device in a network of its own is moved to another one, and that ends: is it in this one then?
    my $device = "/sys/class/net/of$uid";
    for (1 .. 100) {
        last if !-e $device; # of the last time
        select undef, undef, undef, 0.1;
    }
    said(0) if -e $device;
    my $make = 'name=$1
        ip link set lo up
        ip l2tp add tunnel tunnel_id 1 peer_tunnel_id 2 encap udp \
            local 127.0.0.1 remote 127.0.0.1 udp_sport 6001 udp_dport 6002 || exit
        ip l2tp add session tunnel_id 1 session_id 1 peer_session_id 2 name "$name" || exit
        unshare --net sleep 2 &
        until [ "$(readlink /proc/$!/ns/net)" != "$(readlink /proc/$$/ns/net)" ]; do sleep 0.1; done
        ip link set "$name" netns $! || exit
        wait
        sleep 20';
    my $child = fork // said(0);
    if ($child == 0) {
        setpgrp;
        open STDERR, ">", "/dev/null";
        exec qw(unshare --map-root-user --net sh -c), $make, "sh", "of$uid";
    }
    my $is = 0;
    for (1 .. 200) {
        select undef, undef, undef, 0.1;
        $is = -e $device;
        last if $is || waitpid($child, 1) == $child; # WNOHANG
    }
    kill KILL => -$child;
    said($is);
} elsif ($way eq "hwsim") {
    # A radio that is made in a network of its own is moved to this one: is it in this one then?
    my $radio = "of$uid.$$";
    my $child = fork // said(0);
    if ($child == 0) {
        exec qw(unshare --map-root-user --net perl), $0, $uid, "hwsim_inside", getppid, $radio;
    }
    waitpid $child, 0;
    said(-e "/sys/class/ieee80211/$radio");
} elsif ($way eq "hwsim_inside") {
    # What generic netlink answers to a command with attributes.
    sub asked {
        my ($family, $command, %attributes) = @_;
        socket my $s, 16, SOCK_RAW, 16 or said(0);
        my $body = pack "C C S", $command, 1, 0;
        while (my ($type, $value) = each %attributes) {
            $body .= pack "S S a*", 4 + length $value, $type, $value;
            $body .= "\0" x (-length($value) % 4);
        }
        send $s, pack("L S S L L a*", 16 + length $body, $family, 5, 1, 0, $body), 0;
        recv $s, my $answer, 65536, 0;
        return $answer;
    }
    # CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME: the number stands behind the name.
    sub family {
        my $answer = asked(16, 3, 2 => "$_[0]\0");
        my $length = unpack "x20 S", $answer;
        return unpack "x" . (24 + (($length + 3) & ~3)) . " S", $answer;
    }
    # HWSIM_CMD_NEW_RADIO, HWSIM_ATTR_RADIO_NAME; NL80211_CMD_SET_WIPHY_NETNS, NL80211_ATTR_WIPHY, _PID.
    asked(family("MAC80211_HWSIM"), 4, 17 => "$name\0");
    my $moves = family("nl80211");
    asked($moves, 49, 1 => pack("L", $_), 82 => pack("L", $neighbour)) for 0 .. 9;
}

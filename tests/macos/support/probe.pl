# What a test does as an account, with what every macOS has: perl.
#
#     tcp HOST PORT          connects; prints "answered", or what it failed with, and milliseconds
#     udp HOST PORT TEXT     sends hexadecimal TEXT once a second until there is an answer
#     hold HOST PORT         connects and prints "connected"; for a line on its input, sends an
#                            HTTP request and prints what came of it
#     serve PORT...          echoes TCP and UDP, over IPv4 and IPv6, until its input ends
use strict;
use warnings;
use Errno qw(EINPROGRESS);
use Fcntl;
use IO::Select;
use Socket qw(:all);
use Time::HiRes qw(time);

$| = 1;
my $patience = 5;
my ($what, @arguments) = @ARGV;
# Nothing here takes longer, whatever happens to the test; a server ends with its input.
alarm 240 unless $what eq "serve";
my $began = time;

sub outcome { printf "%s %d\n", $_[0], 1000 * (time - $began); exit($_[0] eq "answered" ? 0 : 1) }

sub connected {
    my ($type, $host, $port) = @_;
    my ($error, $found) =
        getaddrinfo($host, $port, { socktype => $type, flags => AI_NUMERICHOST });
    die "$host: $error\n" if $error;
    socket(my $s, $found->{family}, $type, 0) or die "socket: $!\n";
    fcntl($s, F_SETFL, fcntl($s, F_GETFL, 0) | O_NONBLOCK) or die "fcntl: $!\n";
    connect($s, $found->{addr}) or $! == EINPROGRESS or outcome("failed ($!)");
    IO::Select->new($s)->can_write($patience) or outcome("unanswered");
    if ($! = unpack "i", getsockopt($s, SOL_SOCKET, SO_ERROR)) { outcome("failed ($!)") }
    return $s;
}

sub exchange {
    my ($s, $text, $seconds) = @_;
    defined syswrite($s, $text) or return "failed ($!)";
    IO::Select->new($s)->can_read($seconds) or return "unanswered";
    defined(my $read = sysread($s, my $answer, 4096)) or return "failed ($!)";
    return $read ? "answered" : "closed";
}

if ($what eq "tcp") {
    connected(SOCK_STREAM, @arguments);
    outcome("answered");
}
elsif ($what eq "udp") {
    my $text = pack "H*", pop @arguments;
    my $s = connected(SOCK_DGRAM, @arguments);
    my $said = "unanswered";
    for (my $tries = 0; $said eq "unanswered" and $tries < $patience; $tries++) {
        $said = exchange($s, $text, 1);    # a datagram may be lost on its way
    }
    outcome($said);
}
elsif ($what eq "hold") {
    my $s = connected(SOCK_STREAM, @arguments);
    print "connected\n";
    defined(my $line = <STDIN>) or exit;
    outcome(exchange($s, "HEAD / HTTP/1.0\r\n\r\n", $patience));
}
elsif ($what eq "serve") {
    my $all = IO::Select->new(\*STDIN);
    my %kind;
    for my $port (@arguments) {
        for my $host ("0.0.0.0", "::") {
            for my $type (SOCK_STREAM, SOCK_DGRAM) {
                my ($error, $found) = getaddrinfo($host, $port, { socktype => $type });
                die "$host: $error\n" if $error;
                socket(my $s, $found->{family}, $type, 0) or die "socket: $!\n";
                setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1);
                setsockopt($s, IPPROTO_IPV6, IPV6_V6ONLY, 1) if $host eq "::";
                bind($s, $found->{addr}) or die "bind $host $port: $!\n";
                if ($type == SOCK_STREAM) { listen($s, 5) or die "listen: $!\n" }
                $kind{$s} = $type == SOCK_STREAM ? "listening" : "udp";
                $all->add($s);
            }
        }
    }
    print "listening\n";
    while (1) {
        for my $s ($all->can_read) {
            my $kind = $kind{$s} // "";
            if ($kind eq "listening") {
                if (accept(my $new, $s)) { $all->add($new) }
            }
            elsif ($kind eq "udp") {
                my $from = recv($s, my $text, 4096, 0);
                send($s, $text, 0, $from) if defined $from;
            }
            else {
                my $read = sysread($s, my $text, 4096);
                exit if fileno($s) == 0 and !$read;
                if ($read) { syswrite($s, $text) if fileno($s) != 0 }
                else { $all->remove($s); close $s }
            }
        }
    }
}

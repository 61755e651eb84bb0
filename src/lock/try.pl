# Tries what accounts may do, with their effective uid alone. The real and the saved uid stay
# root's, so an account may not signal, trace, stop or read this process, and nothing of it is started.
#
# Input, after __END__: a mark, then a try a line, of words without spaces:
#     NUMBER UID GROUP,GROUP,... KIND HOST PORT MORE      the first group is the effective one
# Kinds: tcp, udp; told (udp, to a peer, so that an ICMP answer is heard); device (udp by the device
# MORE alone); http (GET MORE); write (may it write to MORE);
# bus (may it call the name MORE on the D-Bus whose socket is HOST).
# Output: "MARK NUMBER ok HEX" with what was answered, "MARK NUMBER sent" where nobody said anything, or
# "MARK NUMBER CALL ERRNO words", what the very call said; for http also "MARK NUMBER listen UID,UID",
# once or more. A try without a line did not end.
use strict;
use warnings;
use Errno qw(EINPROGRESS);
use Fcntl qw(F_GETFL F_SETFL O_NONBLOCK);
use IO::Select;
use Socket qw(:all);

# What `use filetest "access"` does, which perl-base has not: -w asks the kernel, which knows ACLs.
BEGIN { $^H |= 0x400000 }

my $PATIENCE = 4;    # seconds for what a connection waits for
my $LIMIT = 7;       # seconds for everything
my $LONGEST = 200;   # bytes of an answer
my $BINDTODEVICE = 25;    # SO_BINDTODEVICE of Linux (socket(7))

setpriority 0, 0, -20;    # whatever else runs here, in whatever numbers
chomp(my ($mark, @tries) = <DATA>);

# Root keeps the time: one process never takes an account's uid, and ends the other.
pipe my $results, my $into or die "pipe: $!\n";
my $child = fork // die "fork: $!\n";
if ($child) {
    close $into;
    $SIG{ALRM} = sub { kill "KILL", $child; die "the tries did not end in $LIMIT s\n" };
    alarm $LIMIT;
    while (sysread($results, my $text, 65536)) { syswrite STDOUT, $text }
    exit 0;
}
close $results;
open STDOUT, ">&", $into and open STDERR, ">&", $into and close $into or die "dup: $!\n";

sub say_line { my $n = shift; syswrite STDOUT, join(" ", $mark, $n, @_) . "\n" }

# The word of a call that failed: its name, and what it means.
sub failed {
    my ($n, $call) = @_;
    my $error = $!;
    my ($name) = grep { $!{$_} } sort keys %!;
    say_line($n, $call, $name // "E?", "$error");
}

# Runs something as an account, and leaves its error in $!.
sub as {
    my ($try, $do) = @_;
    my ($first, @others) = split /,/, $try->{groups};
    $) = join " ", $first, $first, @others;
    $> = $try->{uid};
    my $is = $> == $try->{uid} && $) =~ /^\Q$first\E\b/;
    my $done = $is && $do->();
    my $error = $!;
    $> = 0;
    $) = "0 0";
    die "could not take and lay down the uid\n" if $> != 0 or !$is;
    $! = $error;
    return $done;
}

# Says the uids of those who listen on a TCP port here. Listeners come first in these files of Linux.
sub say_listeners {
    my ($try) = @_;
    my $port = sprintf "%04X", $try->{port};
    my %uids;
    for my $file ("/proc/net/tcp", "/proc/net/tcp6") {
        open my $list, "<", $file or next;
        readline $list;
        while (my $line = readline $list) {
            my (undef, $local, undef, $state, undef, undef, undef, $uid) = split " ", $line;
            last if $state ne "0A";
            $uids{$uid} = 1 if $local =~ /:$port$/;
        }
    }
    say_line($try->{n}, "listen", join ",", sort keys %uids) if %uids;
}

my $reading = IO::Select->new;
my $writing = IO::Select->new;
my %try_of;

sub ended {
    my ($try) = @_;
    say_listeners($try) if $try->{kind} eq "http";
    $reading->remove($try->{socket});
    $writing->remove($try->{socket});
    close $try->{socket};
}

# A call of D-Bus without arguments (its specification, "Message Protocol").
sub call {
    my ($serial, $to, $path, $interface, $member) = @_;
    my $fields = "";
    for ([1, "o", $path], [2, "s", $interface], [3, "s", $member], [6, "s", $to]) {
        my ($code, $type, $value) = @$_;
        $fields .= "\0" x (-length($fields) % 8) . pack "CCaxV/ax", $code, 1, $type, $value;
    }
    # 2: the service is not started for it.
    my $head = pack "aCCCVVV", "l", 1, 2, 1, 0, $serial, length $fields;
    return $head . $fields . "\0" x (-length($fields) % 8);
}

# The bus takes its caller to be who connected.
sub begin_bus {
    my ($try) = @_;
    my ($n, $host) = @$try{qw(n host)};
    socket my $s, AF_UNIX, SOCK_STREAM, 0 or return failed($n, "socket");
    fcntl $s, F_SETFL, fcntl($s, F_GETFL, 0) | O_NONBLOCK or return failed($n, "fcntl");
    as($try, sub { connect $s, pack_sockaddr_un($host) }) or return failed($n, "connect");
    my @bus = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus");
    my $said = "\0AUTH EXTERNAL " . unpack("H*", $try->{uid}) . "\r\nBEGIN\r\n"
        . call(1, @bus, "Hello") . call(2, $try->{more}, "/", "org.freedesktop.DBus.Peer", "Ping");
    defined syswrite $s, $said or return failed($n, "write");
    @$try{qw(socket text)} = ($s, "");
    $try_of{fileno $s} = $try;
    $reading->add($s);
}

# The second answer of the bus is that to the call; what it has no word of its own for was let through.
sub bus_answered {
    my ($try) = @_;
    my $got = sysread $try->{socket}, my $more, 65536;
    return ended($try), say_line($try->{n}, "bus", "ECONNRESET", "the bus hung up") unless $got;
    my $text = $try->{text} .= $more;
    $text =~ s/^OK [0-9a-f]+\r\n// or return;
    my @answers;
    while (length $text >= 16) {
        my (undef, $type, $body, undef, $fields) = unpack "aCx2VVV", $text;
        my $length = 16 + $fields + -$fields % 8 + $body;
        return if length $text < $length;
        push @answers, substr $text, 0, $length if $type == 2 or $type == 3;
        substr($text, 0, $length) = "";
    }
    my $answer = $answers[1] // return;
    my ($error) = ord(substr $answer, 1, 1) == 3 ? $answer =~ /org\.freedesktop\.DBus\.Error\.(\w+)/ : ();
    my ($call, @word) = ("ok", "");
    ($call, @word) = ("send", "EACCES", "the bus denies it") if ($error // "") eq "AccessDenied";
    ($call, @word) = ("connect", "ECONNREFUSED", "nobody has the name")
        if ($error // "") =~ /^(ServiceUnknown|NameHasNoOwner)$/;
    say_line($try->{n}, $call, @word);
    ended($try);
}

sub begin {
    my ($try) = @_;
    my ($n, $kind, $host, $port, $more) = @$try{qw(n kind host port more)};
    return begin_bus($try) if $kind eq "bus";
    if ($kind eq "write") {
        return as($try, sub { -w $more }) ? say_line($n, "ok", "") : failed($n, "access");
    }
    my $six = $host =~ /:/;
    my $family = $six ? AF_INET6 : AF_INET;
    my $address = inet_pton($family, $host) // return say_line($n, "address", "EINVAL", $host);
    my $to = $six ? pack_sockaddr_in6($port, $address) : pack_sockaddr_in($port, $address);
    my $type = $kind =~ /^(?:udp|told|device)$/ ? SOCK_DGRAM : SOCK_STREAM;
    my $s;
    as($try, sub { socket $s, $family, $type, 0 }) or return failed($n, "socket");
    fcntl $s, F_SETFL, fcntl($s, F_GETFL, 0) | O_NONBLOCK or return failed($n, "fcntl");
    if ($kind eq "device") {
        setsockopt $s, SOL_SOCKET, $BINDTODEVICE, "$more\0" or return failed($n, "setsockopt");
    }
    if ($type == SOCK_DGRAM) {
        # From one of root's ports: an account can hold all of the others.
        for my $own (reverse 512 .. 1023) {
            last if bind $s, $six ? pack_sockaddr_in6($own, IN6ADDR_ANY)
                : pack_sockaddr_in($own, INADDR_ANY);
        }
        my $isTold = $kind eq "told";
        my $sent = as($try, sub {
            return defined send $s, "x", 0, $to if !$isTold;
            return connect($s, $to) && defined send $s, "x", 0;
        });
        return failed($n, "send") if !$sent;
        return say_line($n, "ok", "") if !$isTold;
        # An answer of pf's comes back over loopback, at once.
        IO::Select->new($s)->can_read(0.3);
        $! = unpack "i", getsockopt $s, SOL_SOCKET, SO_ERROR;
        return $! ? failed($n, "send") : say_line($n, "sent");
    }
    $try->{socket} = $s;
    $try_of{fileno $s} = $try;
    say_listeners($try) if $kind eq "http";
    my $connected = as($try, sub { connect $s, $to });
    return failed($n, "connect") unless $connected or $! == EINPROGRESS;
    $writing->add($s);
}

# The connection stands, or has failed.
sub connected {
    my ($try) = @_;
    if ($! = unpack "i", getsockopt $try->{socket}, SOL_SOCKET, SO_ERROR) {
        failed($try->{n}, "connect");
        return ended($try);
    }
    if ($try->{kind} eq "tcp") {
        say_line($try->{n}, "ok", "");
        return ended($try);
    }
    my $host = $try->{host} =~ /:/ ? "[$try->{host}]" : $try->{host};
    my $request = "GET $try->{more} HTTP/1.0\r\nHost: $host\r\n\r\n";
    if (!defined syswrite $try->{socket}, $request) {
        failed($try->{n}, "write");
        return ended($try);
    }
    $writing->remove($try->{socket});
    $reading->add($try->{socket});
}

# Bytes of an answer: the first line of it, as hexadecimal digits, and no more of it than is shown.
sub answered {
    my ($try) = @_;
    return bus_answered($try) if $try->{kind} eq "bus";
    my $got = sysread($try->{socket}, my $text, $LONGEST);
    if (!defined $got) {
        failed($try->{n}, "read");
        return ended($try);
    }
    $try->{text} = ($try->{text} // "") . $text;
    return if $got and $try->{text} !~ /\n/ and length $try->{text} < $LONGEST;
    my ($line) = split /\n/, $try->{text};
    say_line($try->{n}, "ok", unpack("H*", substr $line // "", 0, $LONGEST));
    ended($try);
}

$SIG{PIPE} = "IGNORE";
for my $line (@tries) {
    my %try;
    @try{qw(n uid groups kind host port more)} = split / /, $line;
    begin(\%try);
}
my $deadline = time + $PATIENCE + 1;    # time counts whole seconds
while ($reading->count + $writing->count and time < $deadline) {
    my ($readable, $writable) = IO::Select->select($reading, $writing, undef, 1);
    connected($try_of{fileno $_}) for @{$writable // []};
    answered($try_of{fileno $_}) for @{$readable // []};
}
for my $try (map { $try_of{fileno $_} } $reading->handles, $writing->handles) {
    say_line($try->{n}, "wait", "ETIMEDOUT", "no answer in $PATIENCE s");
    ended($try);
}
__END__

# Tells what accounts may do through somebody else: "sudo NAME LINE" for what sudo(8) says of it, "id
# NAME LINE" for id(1), "UID write PATH", "UID run PATH", "UID cap PATH CAPABILITIES", "no getcap", and
# "any peer" where any account may put a device into any network namespace.
#
# Arguments: "account NAME", "uid UID" for a uid without a name, "write PATH" and "run PATH". Only the
# effective uid and the groups are changed. The real and the saved uid stay root's, so the account may
# not signal this process, trace it or read its files.
use strict;
use warnings;
no warnings 'exec';
use Fcntl qw(O_WRONLY O_NONBLOCK O_NOCTTY);

my $ENXIO = 6; # errno(3); the module that knows it takes milliseconds to load
my (@ids, @write, @run, @cap);
# It goes through its folders while the others are asked.
my @folders = map { "/usr/$_" } qw(bin sbin local/bin local/sbin);
# Tried between two network namespaces that are nobody's, and gone when it is over (veth(4), unshare(1)).
my $hasUnshare = open my $peer, '-|', 'unshare', '--net', 'perl', '-e',
  'open STDERR, ">", "/dev/null";' .
  'exit(system(qw(unshare --map-root-user --net ip link add name one type veth peer name two netns), $$) != 0)';
my $hasGetcap = open my $getcap, '-|', 'getcap', '-r', @folders;
for (@ARGV) {
  if (/^account (.+)/) {
    my $name = $1;
    if (open my $rights, '-|', 'sudo', '-n', '-l', '-U', $name) {
      print "sudo $name $_" while <$rights>;
    }
    open my $id, '-|', 'id', '--', $name or next;
    my $line = <$id> // next;
    print "id $name $line";
    push @ids, $line;
  }
  elsif (/^uid (\d+)/) { push @ids, "uid=$1 gid=$1 groups=$1" }
  elsif (m{^write (/.+)}) { push @write, $1 if -e $1 }
  # A helper without a setuid or setgid bit has no more rights than who runs it.
  elsif (m{^run (/.+)}) { push @run, $1 if -f $1 && (-u _ || -g _) }
}
if ($hasGetcap) {
  while (<$getcap>) {
    # Before libcap 2.41 with an equals sign in between.
    push @cap, [$1, $2] if m{^(/.*?) (?:= )?(cap_\S+)$};
  }
}
else { print "no getcap\n" }
print "any peer\n" if $hasUnshare && close $peer;
for my $id (@ids) {
  my ($uid, $gid, $groups) = $id =~ /^uid=(\d+)\S* gid=(\d+).* groups=(.*)/ or next;
  my @groups = $groups =~ /(?:^|,)(\d+)(?=[(,]|$)/g;
  $) = "$gid $gid @groups";
  $> = $uid;
  $> == $uid or die "could not take the effective uid $uid\n";
  for my $path (@write) {
    # The kernel says whether it may be written to, access lists included; of a socket it then says
    # that it is none to open.
    print "$uid write $path\n"
      if sysopen(my $file, $path, O_WRONLY | O_NONBLOCK | O_NOCTTY) || $! == $ENXIO;
  }
  for my $path (@run) { print "$uid run $path\n" if -x $path }
  for my $cap (@cap) { print "$uid cap $cap->[0] $cap->[1]\n" if -x $cap->[0] }
  $> = 0;
  $) = "0 0";
}

# Tells what each account may do: "UID write PATH", "UID run PATH", "UID cap PATH CAPABILITIES".
#
# Standard input: what id(1) printed of each account; "write PATH" and "run PATH", each a pattern; and
# what getcap(8) printed. Only the effective uid and the groups are changed. The real and the saved
# uid stay root's, so the account may not signal this process, trace it or read its files.
use strict;
use warnings;
use Fcntl qw(O_WRONLY O_NONBLOCK O_NOCTTY);

my (@ids, @write, @run, @cap);
while (my $line = <STDIN>) {
  chomp $line;
  if ($line =~ /^uid=/) { push @ids, $line }
  elsif ($line =~ m{^write (/.+)}) { push @write, grep { -e } glob $1 }
  # A helper without a setuid or setgid bit has no more rights than who runs it.
  elsif ($line =~ m{^run (/.+)}) { push @run, grep { -f && (-u || -g) } glob $1 }
  # Before libcap 2.41 with an equals sign in between.
  elsif ($line =~ m{^(/.*?) (?:= )?(cap_\S+)$}) { push @cap, [$1, $2] }
}
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
      if sysopen(my $file, $path, O_WRONLY | O_NONBLOCK | O_NOCTTY) || $!{ENXIO};
  }
  for my $path (@run) { print "$uid run $path\n" if -x $path }
  for my $cap (@cap) { print "$uid cap $cap->[0] $cap->[1]\n" if -x $cap->[0] }
  $> = 0;
  $) = "0 0";
}

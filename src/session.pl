# The privileged session: what the one sudo of a run starts. It reads statements from standard input,
# behind this text, does what each says, and says on both outputs how it ended.
# What a run changed and did not commit is undone when the input ends, whatever ended it.
# It loads no module that it can do without: each takes milliseconds, at every start.
use strict;
use warnings;
no warnings qw(exec once); # what cannot be started is an answer; DATA is what stands behind __END__

# The same on Linux and macOS: errno(3), flock(2).
my ($ENOENT, $ENOTDIR, $LOCK_EX, $LOCK_NB) = (2, 20, 2, 4);

$SIG{$_} = 'IGNORE' for qw(INT HUP TERM);
# Nobody may be there any more to read an answer; commands still end of it.
$SIG{PIPE} = sub { };
$ENV{LC_ALL} = 'C';
# What sudoers says comes first (secure_path); it need not name where the system's tools are.
$ENV{PATH} = join ':', grep { defined } $ENV{PATH}, '/usr/sbin:/usr/bin:/sbin:/bin';
umask 022;
$| = 1;

# What ends an answer. It comes with the statements, so that nobody can guess it.
chomp(my $mark = readline DATA);
# The changes that are not committed, in their order: what made each, and the line that takes it back.
my @changes;
# Open while other runs are kept out; no command gets it (perlvar, $^F).
my $lock;

# The next statement, a word each, of which the lengths are told first; nothing where the input ended,
# in the middle of one as well.
sub statement {
  my $count = number() // return;
  my @words;
  for (1 .. $count) {
    my $length = number() // return;
    (read(DATA, $words[$_ - 1], $length) // -1) == $length or return;
  }
  return @words;
}

sub number {
  return (readline(DATA) // '') =~ /^(\d+)\n\z/ ? $1 : undef;
}

sub answer {
  print "\n$mark $_[0]\n";
  print STDERR "\n$mark\n";
}

# limited SECONDS, INPUT, COMMAND…: the command's exit code, as a shell gives it; 137 where it took longer.
sub limited {
  my ($seconds, $input, @command) = @_;
  my ($out, $in, $pid);
  # A machine that has no process left for a moment is no reason not to undo.
  for (1 .. 50) {
    last if defined $input && !$out && !pipe $out, $in;
    $pid = fork;
    last if defined $pid;
    select undef, undef, undef, 0.1;
  }
  if (!defined $pid) {
    print STDERR "cannot start $command[0]: $!\n";
    return 126;
  }
  if ($pid == 0) {
    setpgrp;
    if (defined $input) { open STDIN, '<&', $out }
    else { open STDIN, '<', '/dev/null' }
    exec { $command[0] } @command;
    my $isThere = $! != $ENOENT;
    print STDERR "$command[0]: $!\n";
    exit($isThere ? 126 : 127);
  }
  # Its children are of its group, once it has one.
  local $SIG{ALRM} = sub { kill KILL => -$pid, $pid };
  alarm $seconds;
  if (defined $input) {
    close $out;
    print {$in} $input;
    close $in;
  }
  waitpid $pid, 0;
  alarm 0;
  return $? & 127 ? 128 + ($? & 127) : $? >> 8;
}

# run SECONDS UNDO COMMAND…, and feed INPUT SECONDS UNDO COMMAND…: one command, and the line that takes
# back what it did, if it changes anything.
sub feed {
  my ($input, $seconds, $undo, @command) = @_;
  my $code = limited($seconds, $input, @command);
  # 141: it died of a reader that is gone. Then the program is, and what it had begun is undone, too.
  note($undo, @command) if $undo ne '' && ($code == 0 || $code == 141);
  answer($code);
}

sub note {
  my ($undo, @command) = @_;
  push @changes, { undo => $undo, what => "@command" };
}

# Nobody hears what is said from here on.
sub hush {
  open STDOUT, '>', '/dev/null';
  open STDERR, '>', '/dev/null';
}

# Takes back the last change. The lines are written for a person to paste: here they need no sudo. They
# may be longer than an argument may be, and nobody is to read them there.
sub back {
  my $change = pop @changes // return 0;
  my $script = "sudo() { \"\$@\"; }\n{\n$change->{undo}\n} </dev/null >/dev/null 2>&1\n";
  return limited(180, $script, 'sh');
}

# What was changed stays: the next run may begin. The system's log has it, where there is one, and
# nobody waits for that.
sub commit {
  my ($what) = @_;
  my $who = $ENV{SUDO_USER} // 'root';
  my @lines = map { split /\n/, $_->{what} } @changes;
  my $text = join '', map { substr("$who: $what: $_", 0, 900) . "\n" } @lines;
  @changes = ();
  undef $lock;
  if (@lines && !(fork // 1)) {
    open STDIN, '<', '/dev/null';
    hush();
    limited(5, $text, 'logger', '-t', 'fishnet');
    exit;
  }
  answer(0);
}

# lock SECONDS: keeps other runs out until this one commits, or ends; answers 1 where another one still
# does so after that time. Only root can open the file, so nobody else can hold it; neither is ever
# made, since an empty sudoers file would take sudo from everybody.
sub lock_out {
  my ($seconds) = @_;
  my $file = -e '/etc/sudoers' ? '/etc/sudoers' : '/root';
  if (!open $lock, '<', $file) {
    print STDERR "$file cannot be opened: $!\n";
    return answer(2);
  }
  local $SIG{ALRM} = sub { };
  alarm $seconds;
  my $held = flock $lock, $seconds ? $LOCK_EX : $LOCK_EX | $LOCK_NB;
  alarm 0;
  answer($held ? 0 : 1);
}

# look PATTERN…: what is there by these names, in which a star stands for any characters but a slash. Of
# each: its path, type, mode and owner, where a link leads, why it could not be read, and its text.
sub look {
  my @patterns = @_;
  local $SIG{ALRM} = sub { die "it took too long\n" };
  alarm 60;
  eval { look_at($_) for map { paths($_) } @patterns; 1 } or seen($patterns[0], '-', 0, 0, '', $@, '');
  alarm 0;
  answer(0);
}

sub look_at {
  my ($path) = @_;
  my ($mode, $uid) = (lstat $path)[2, 4];
  if (!defined $mode) {
    seen($path, '-', 0, 0, '', "$!", '') if !is_absent();
    return;
  }
  my $type = -l _ ? 'l' : -d _ ? 'd' : -f _ ? 'f' : -S _ ? 's' : '-';
  my $target = $type eq 'l' ? readlink $path : '';
  my ($error, $text) = ('', '');
  # What is no file may keep its reader waiting.
  if (-f $path) {
    my $file;
    local $/;
    $text = open($file, '<', $path) ? readline $file : undef;
    $error = "$!" if !defined $text;
  }
  seen($path, $type, $mode, $uid, $target, $error, $text // '');
}

sub paths {
  my ($folder, @names) = split m{/}, $_[0];
  my @paths = ($folder);
  for my $name (@names) {
    @paths = map { my $folder = $_; map { "$folder/$_" } names($folder, $name) } @paths;
  }
  return @paths;
}

sub names {
  my ($folder, $name) = @_;
  return $name if $name !~ /\*/;
  my $pattern = join '.*', map { quotemeta } split /\*/, $name, -1;
  if (opendir my $listing, $folder) {
    return sort grep { /^$pattern\z/s && !/^\./ } readdir $listing;
  }
  seen($folder, 'd', 0, 0, '', "$!", '') if !is_absent();
  return ();
}

sub is_absent { return $! == $ENOENT || $! == $ENOTDIR }

sub seen {
  my ($path, $type, $mode, $uid, $target, $error, $text) = @_;
  $text =~ tr/\0//d;
  print join "\0", $path, $type, sprintf('%o', $mode & 07777), $uid, $target, $error, $text, '';
}

while (my ($verb, @words) = statement()) {
  if ($verb eq 'run') { feed(undef, @words) }
  elsif ($verb eq 'feed') { feed(@words) }
  elsif ($verb eq 'look') { look(@words) }
  elsif ($verb eq 'lock') { lock_out(@words) }
  elsif ($verb eq 'note') { note($words[0], 'failed'); answer(0) }
  elsif ($verb eq 'back') { answer(back()) }
  elsif ($verb eq 'commit') { commit(@words) }
  else { answer(0) }
}
hush();
back() while @changes;

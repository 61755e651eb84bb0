# Evaluates a Homebrew formula as Homebrew would on one system, and prints what
# it says as JSON: formula.rb FORMULA macos|linux arm|intel FOLDER [BINARY]
#
# FOLDER is what the archive unpacks to. BINARY, where given, is what `test do`
# finds as the installed program.
require "json"
require "open3"

FILE, SYSTEM, PROCESSOR, FOLDER, BINARY = ARGV

# Stands in for Homebrew's: knows what formulae of this kind use, and nothing else.
class Formula
  class << self
    attr_reader :said

    def inherited(formula)
      super
      formula.instance_variable_set(:@said, {})
    end

    %i[desc homepage version license url sha256].each do |name|
      define_method(name) do |value|
        raise "#{name} is said twice" if @said.key?(name)

        @said[name] = value
      end
    end

    def on_macos = (yield if SYSTEM == "macos")
    def on_linux = (yield if SYSTEM == "linux")
    def on_arm = (yield if PROCESSOR == "arm")
    def on_intel = (yield if PROCESSOR == "intel")

    def test(&block) = define_method(:run_test, &block)
  end

  # A folder that things are installed into.
  class Place
    def initialize(name, installed) = (@name, @installed = name, installed)

    def install(file)
      raise "#{file} is not in the archive" unless File.file?(File.join(FOLDER, file))

      (@installed[@name] ||= []) << File.basename(file)
    end

    def to_s = File.dirname(BINARY)
  end

  attr_reader :installed

  def initialize = @installed = {}

  %i[bin man8 bash_completion zsh_completion fish_completion].each do |name|
    define_method(name) { Place.new(name, @installed) }
  end

  def shell_output(command)
    output, status = Open3.capture2(command)
    raise "#{command} ended with #{status.exitstatus}" unless status.success?

    output
  end

  def assert_match(expected, actual)
    raise "no #{expected.inspect} in #{actual.inspect}" unless actual.include?(expected)

    (@matched ||= []) << expected
  end

  attr_reader :matched
end

load FILE
formula = Fishnet.new
formula.install
formula.run_test if BINARY
puts JSON.generate(
  Fishnet.said.merge(
    installed: formula.installed, caveats: formula.caveats, matched: formula.matched,
  ),
)

#include "cli/arguments.h"

#include <gtest/gtest.h>

#include "cli/command.h"

namespace caisson::cli {
namespace {

struct Parsed {
  bool flag = false;
  std::string text = "default";
  uint32_t number = 0;
  std::vector<std::string> list, rest;
  std::string id;
  Result<void> result;
};

Parsed parse(std::vector<std::string> arguments, bool with_rest) {
  Parsed parsed;
  Arguments declared("caisson x", "", std::move(arguments));
  declared.flag("--flag,-f", parsed.flag, "");
  declared.option("--text,-t", parsed.text, "TEXT", "");
  declared.option("--number", parsed.number, "N", "");
  declared.option("--list,-l", parsed.list, "ITEM", "");
  if (with_rest) {
    declared.rest("ID [COMMAND]", parsed.rest, "", 1);
  } else {
    declared.positional("id", parsed.id, "");
  }
  parsed.result = declared.parse();
  return parsed;
}

TEST(Arguments, OptionsInAnyOrder) {
  Parsed parsed = parse({"-f", "name", "--text=a b", "--number", "3", "-l", "[1,2]", "-l", "two"}, false);
  ASSERT_TRUE(parsed.result.ok()) << parsed.result.error().message();
  EXPECT_TRUE(parsed.flag);
  EXPECT_EQ(parsed.text, "a b");
  EXPECT_EQ(parsed.number, 3u);
  EXPECT_EQ(parsed.list, (std::vector<std::string>{"[1,2]", "two"}));
  EXPECT_EQ(parsed.id, "name");
}

TEST(Arguments, AnEmptyValueIsAValue) {
  Parsed parsed = parse({"--text=", "name"}, false);
  ASSERT_TRUE(parsed.result.ok()) << parsed.result.error().message();
  EXPECT_EQ(parsed.text, "");
  EXPECT_EQ(parsed.id, "name");
}

TEST(Arguments, TheLastOneCounts) {
  Parsed parsed = parse({"--text", "1", "--text", "-2", "name"}, false);
  ASSERT_TRUE(parsed.result.ok()) << parsed.result.error().message();
  EXPECT_EQ(parsed.text, "-2");
}

TEST(Arguments, ACommandKeepsItsOwnOptions) {
  Parsed parsed = parse({"-t", "x", "name", "ls", "-f", "--text=", "--", "--nope"}, true);
  ASSERT_TRUE(parsed.result.ok()) << parsed.result.error().message();
  EXPECT_FALSE(parsed.flag);
  EXPECT_EQ(parsed.rest, (std::vector<std::string>{"name", "ls", "-f", "--text=", "--", "--nope"}));
  parsed = parse({"--", "ls", "-f"}, true);
  ASSERT_TRUE(parsed.result.ok()) << parsed.result.error().message();
  EXPECT_EQ(parsed.rest, (std::vector<std::string>{"ls", "-f"}));
}

TEST(Arguments, ErrorsNameTheArgument) {
  struct {
    std::vector<std::string> arguments;
    bool rest;
    const char* names;
  } rows[] = {{{"--nope", "name"}, false, "--nope"},
              {{"name", "more"}, false, "more"},
              {{}, false, "id"},
              {{"--number", "x", "name"}, false, "--number"},
              {{"name", "--text"}, false, "--text"},
              {{"--nope=1", "name"}, true, "--nope"},
              {{"-f"}, true, "ID"},
              {{"-x", "name"}, true, "-x"}};
  for (const auto& row : rows) {
    Parsed parsed = parse(row.arguments, row.rest);
    ASSERT_FALSE(parsed.result.ok()) << row.names;
    EXPECT_NE(parsed.result.error().message().find(row.names), std::string::npos) << parsed.result.error().message();
    EXPECT_EQ(parsed.result.error().message().find('\n'), std::string::npos);
  }
}

TEST(Commands, HelpNamesEveryOption) {
  for (const Command& command : commands()) {
    Context described({}, "caisson", "", {});
    described.arguments.describe_only();
    EXPECT_FALSE(command.run(described).ok());
    Context context({}, std::string("caisson ") + command.name, command.summary, {"--help"});
    testing::internal::CaptureStdout();
    EXPECT_FALSE(command.run(context).ok()) << command.name;
    std::string help = testing::internal::GetCapturedStdout();
    EXPECT_TRUE(context.arguments.help_printed()) << command.name;
    EXPECT_NE(help.find("Usage: caisson " + std::string(command.name)), std::string::npos) << help;
    for (const OptionDescription& option : described.arguments.options())
      for (const std::string& name : option.names) EXPECT_NE(help.find(name), std::string::npos) << command.name << " " << name;
  }
}

}  // namespace
}  // namespace caisson::cli

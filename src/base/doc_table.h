// For tests: a table in docs/ that is made from rows in the code stays in step with them.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

namespace caisson {

// Expects docs/<file> to have `table` between the lines "<!-- begin NAME -->" and "<!-- end NAME -->". With CAISSON_UPDATE_DOCS=1 in the
// environment it puts it there.
inline void expect_doc_table(const std::string& file, const std::string& name, const std::string& table) {
  const std::string path = std::string(CAISSON_SOURCE_DIR) + "/docs/" + file;
  std::ifstream in(path);
  ASSERT_TRUE(in.is_open()) << path;
  std::stringstream buffer;
  buffer << in.rdbuf();
  std::string text = buffer.str();
  const std::string begin = "<!-- begin " + name + " -->\n", end = "<!-- end " + name + " -->";
  size_t from = text.find(begin);
  ASSERT_NE(from, std::string::npos) << path << " has no line " << begin;
  from += begin.size();
  size_t to = text.find(end, from);
  ASSERT_NE(to, std::string::npos) << path << " has no line " << end;
  if (const char* update = std::getenv("CAISSON_UPDATE_DOCS"); update && *update == '1') {
    std::ofstream(path) << text.replace(from, to - from, table);
    return;
  }
  std::istringstream documented(text.substr(from, to - from)), made(table);
  for (std::string theirs, ours; !documented.eof() || !made.eof();) {
    if (!std::getline(documented, theirs)) theirs = "(nothing)";
    if (!std::getline(made, ours)) ours = "(nothing)";
    ASSERT_EQ(theirs, ours) << path << " is out of step; run this test with CAISSON_UPDATE_DOCS=1 to bring it up to date";
  }
}

}  // namespace caisson

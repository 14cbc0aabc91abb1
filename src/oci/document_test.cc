#include "oci/document.h"

#include <gtest/gtest.h>

#include "oci/parse.h"

namespace caisson::oci {
namespace {

std::string error_of(std::string_view text) {
  Result<Json> json = parse_document(text, "doc");
  return json.ok() ? "" : json.error().message();
}

TEST(Document, SyntaxErrorsHaveLineAndColumn) {
  EXPECT_EQ(error_of(""),
            "doc: line 1, column 1: syntax error while parsing value - unexpected end of input; expected '[', '{', or a literal");
  EXPECT_TRUE(error_of("{\n  \"a\": tru\n}").starts_with("doc: line 2, column ")) << error_of("{\n  \"a\": tru\n}");
  EXPECT_TRUE(error_of("{} x").starts_with("doc: line 1, column 4: ")) << error_of("{} x");
  EXPECT_NE(error_of("{\"a\": 1e999}"), "");
  EXPECT_NE(error_of("[1,]"), "");
  EXPECT_NE(error_of("{'a': 1}"), "");
}

TEST(Document, RefusesBytesThatAreNotUtf8) {
  EXPECT_NE(error_of("{\"a\": \"\xff\"}"), "");
  EXPECT_NE(error_of("\"\xc3"), "");
  EXPECT_NE(error_of("\"\xed\xa0\x80\""), "");  // a surrogate
  EXPECT_NE(error_of("\"\\ud800\""), "");       // half a pair
  EXPECT_EQ(error_of("\"\xc3\xa9\""), "");
  for (char c : error_of("{\"a\": \"\xff\"}")) EXPECT_GE(static_cast<unsigned char>(c), 0x20);
}

TEST(Document, RefusesNul) {
  EXPECT_EQ(error_of("{\"a\": \"x\\u0000y\"}"), "doc: the string \"x?y\" has a NUL character, which nothing on Linux accepts");
  EXPECT_NE(error_of("{\"a\\u0000\": 1}"), "");
  EXPECT_NE(error_of(std::string_view("{}\0", 3)), "");
}

TEST(Document, DepthIsLimited) {
  auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_EQ(error_of(nested(kMaxDocumentDepth)), "");
  EXPECT_EQ(error_of(nested(kMaxDocumentDepth + 1)), "doc: nested deeper than 128 levels");
  EXPECT_EQ(error_of(std::string(10'000'000, '[')), "doc: nested deeper than 128 levels");
  std::string objects;
  for (int i = 0; i < 1000; ++i) objects += "{\"a\":";
  EXPECT_EQ(error_of(objects), "doc: nested deeper than 128 levels");
}

TEST(Document, SizeIsLimited) {
  EXPECT_EQ(error_of(std::string(kMaxDocumentBytes + 1, ' ')), "doc: is longer than 16 MiB");
  std::string many = "[0";
  for (size_t i = 0; i < kMaxDocumentValues; ++i) many += ",0";
  EXPECT_EQ(error_of(many + "]"), "doc: more than 1048576 values");
}

TEST(Document, LastOfTwoEqualKeysCounts) {
  Result<Json> json = parse_document("{\"a\": {\"x\": 1}, \"b\": 1, \"a\": [2, [3]]}", "doc");
  ASSERT_TRUE(json.ok());
  EXPECT_EQ((*json)["a"].dump(), "[2,[3]]");
}

TEST(Document, BuildsTheTree) {
  const std::string text = "{\"a\":[1,-2,{\"b\":[[],{},null,true,\"x\"]},[[[3]]]],\"c\":18446744073709551615}";
  Result<Json> json = parse_document(text, "doc");
  ASSERT_TRUE(json.ok());
  EXPECT_EQ(json->dump(), text);
}

TEST(Excerpt, IsShortAndSafe) {
  EXPECT_EQ(excerpt("plain \xc3\xa9"), "plain \xc3\xa9");
  EXPECT_EQ(excerpt("a\x1b[2Jb\n\x7f\xff\xc2\x9b"), "a?[2Jb????");
  EXPECT_EQ(excerpt(std::string(1000, 'x'), 8), "xxxx...xx");
}

}  // namespace
}  // namespace caisson::oci

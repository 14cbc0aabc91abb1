// A value that prints as JSON; just enough for testinit's answers, so that the program needs no library.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace caisson::testinit {

inline void append_quoted(std::string& out, std::string_view text) {
  out += '"';
  for (unsigned char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c < 0x20 || c >= 0x7f) {  // bytes as Latin-1: the reader encodes them back
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", c);
      out += escape;
    } else {
      out += static_cast<char>(c);
    }
  }
  out += '"';
}

// An already printed JSON value. Built bottom-up: Json(1), Json("text"), Json::list(v), Object().set("a", 1).
class Json {
 public:
  Json() : text_("null") {}
  Json(bool value) : text_(value ? "true" : "false") {}                      // NOLINT
  Json(int value) : text_(std::to_string(value)) {}                          // NOLINT
  Json(unsigned value) : text_(std::to_string(value)) {}                     // NOLINT
  Json(long value) : text_(std::to_string(value)) {}                         // NOLINT
  Json(unsigned long value) : text_(std::to_string(value)) {}                // NOLINT
  Json(long long value) : text_(std::to_string(value)) {}                    // NOLINT
  Json(unsigned long long value) : text_(std::to_string(value)) {}           // NOLINT
  Json(const char* value) : text_() { append_quoted(text_, value); }         // NOLINT
  Json(const std::string& value) : text_() { append_quoted(text_, value); }  // NOLINT
  Json(std::string_view value) : text_() { append_quoted(text_, value); }    // NOLINT

  template <typename Range>
  static Json list(const Range& values) {
    Json json;
    json.text_ = "[";
    const char* comma = "";
    for (const auto& value : values) {
      json.text_ += comma;
      json.text_ += Json(value).text();
      comma = ",";
    }
    json.text_ += "]";
    return json;
  }
  static Json raw(std::string text) {
    Json json;
    json.text_ = std::move(text);
    return json;
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

class Object {
 public:
  Object& set(std::string_view name, const Json& value) {
    members_ += members_.empty() ? "" : ",";
    append_quoted(members_, name);
    members_ += ":";
    members_ += value.text();
    return *this;
  }
  operator Json() const { return Json::raw("{" + members_ + "}"); }  // NOLINT

 private:
  std::string members_;
};

}  // namespace caisson::testinit

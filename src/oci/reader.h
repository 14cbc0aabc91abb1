// Reading a JSON tree into plain structs: a cursor that knows its path. Internal to src/oci and the configuration reader.
#pragma once

#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/result.h"
#include "oci/document.h"

namespace caisson::oci {

// What one document's reading came to. The first problem counts; after it, reads do nothing, so that parsing is straight-line code.
class Reading {
 public:
  explicit Reading(std::string document) : document_(std::move(document)) {}
  Reading(const Reading&) = delete;

  const std::string& document() const { return document_; }
  bool failed() const { return error_.has_value(); }
  void fail(std::string_view path, std::string_view problem);
  // Call where failed().
  Error take_error() { return std::move(*error_); }

 private:
  std::string document_;
  std::optional<Error> error_;
};

// A place in the document: a value, or the absence of one. null counts as absent, as in Go's decoder. Borrows the reading and the tree.
// Every read leaves its target alone where the value is absent, and fails the reading where it has the wrong type or is out of range.
class Node {
 public:
  using Wide = __int128;

  Node(Reading& reading, const Json& root) : reading_(&reading), value_(&root) {}

  bool present() const { return value_ != nullptr && !value_->is_null(); }
  const std::string& path() const { return path_; }
  Reading& reading() const { return *reading_; }

  // A member of an object.
  Node operator[](std::string_view name) const;
  // f(Node) for each element of an array.
  template <typename F>
  void each(F&& f) const {
    if (!expect_array()) return;
    for (size_t i = 0; i < value_->size() && !reading_->failed(); ++i) f(Node(*reading_, &(*value_)[i], fmt::format("{}[{}]", path_, i)));
  }
  // f(key, Node) for each member of an object, in the order of the keys.
  template <typename F>
  void each_member(F&& f) const {
    if (!expect_object()) return;
    for (auto it = value_->begin(); it != value_->end() && !reading_->failed(); ++it)
      f(it.key(), Node(*reading_, &it.value(), member_path(it.key())));
  }

  void read(bool& out) const;
  void read(std::string& out) const;
  void read(std::vector<std::string>& out) const;
  void read(std::map<std::string, std::string>& out) const;
  template <typename T>
  requires std::is_integral_v<T>
  void read(T& out, Wide min = std::numeric_limits<T>::min(), Wide max = std::numeric_limits<T>::max()) const {
    Wide number = 0;
    if (read_number(number, min, max)) out = static_cast<T>(number);
  }
  template <typename T, typename... Range>
  void read(std::optional<T>& out, Range... range) const {
    if (!present()) return;
    T value{};
    read(value, range...);
    out = value;
  }
  // An array of objects, each read by parse(Node, T&).
  template <typename T, typename F>
  void read_list(std::vector<T>& out, F&& parse) const {
    each([&](const Node& element) { parse(element, out.emplace_back()); });
  }

  // Fails where the value is absent; returns *this.
  const Node& required() const;
  // Fails unless the string is absolute; "" fails too.
  void check_absolute(const std::string& text) const;
  void fail(std::string_view problem) const { reading_->fail(path_, problem); }
  // "<what must be>, is <the value>".
  void fail_value(std::string_view must) const { fail(fmt::format("{}, is {}", must, show())); }
  // The value for a message: a short scalar as JSON, else "an object", "an array", "not given".
  std::string show() const;

 private:
  Node(Reading& reading, const Json* value, std::string path) : reading_(&reading), value_(value), path_(std::move(path)) {}

  std::string member_path(std::string_view name) const;
  bool expect_object() const;
  bool expect_array() const;
  bool read_number(Wide& out, Wide min, Wide max) const;

  Reading* reading_;
  const Json* value_;
  std::string path_;
};

// "a, b or c", for messages.
std::string list_names(std::span<const std::string_view> names);

}  // namespace caisson::oci
